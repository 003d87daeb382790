"""Text embeddings with a cache: each text is embedded once."""
