"""How priors are measured: embedding and picture metrics with paired bootstrap intervals, and their tables."""
