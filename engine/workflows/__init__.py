"""What is done with a model beyond one question: bulk, tribunal, long prompts. Knows no HTTP."""
