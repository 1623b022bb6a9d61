"""What the gateway keeps of requests, verdicts and feedback: numbers in memory, written down by a thread."""
