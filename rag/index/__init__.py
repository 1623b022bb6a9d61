"""From pages to an index: chunks, embeddings, generations."""
