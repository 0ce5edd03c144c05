"""The mini world: a tiny, fully known visual domain on which every stage really runs on a CPU."""
