"""The calls that the service answers, by what they give."""
