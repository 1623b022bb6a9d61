"""The turn of a chat: from a question to an answer that names its sources, or to an honest refusal."""
