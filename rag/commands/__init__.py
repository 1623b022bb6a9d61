"""The commands of `python -m rag`, a file for each."""
