"""What the gateway offers beyond passing a request on: bulk, tribunal, long prompts, batches, feedback."""
