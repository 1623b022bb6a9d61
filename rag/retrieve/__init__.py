"""From a question to passages with a source, and to the judgement whether they can answer it."""
