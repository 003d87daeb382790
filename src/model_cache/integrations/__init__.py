"""What connects the cache to other software; each module is imported on use, with its extra."""
