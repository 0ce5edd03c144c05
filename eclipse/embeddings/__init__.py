"""What the frozen encoders said about a dataset: a ragged, memory-mapped, checksummed store that priors train from."""
