"""Pictures of web scale: from a list of URLs, by img2dataset, to a dataset; nothing here holds all pictures at once."""
