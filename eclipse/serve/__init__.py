"""The service: from a request to pictures that tell where they come from."""
