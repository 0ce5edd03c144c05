"""A person's own subjects: pictures from a prompt with them, interpolation between prompts, a finetuned decoder."""
