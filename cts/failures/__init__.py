"""F: what a failure does, and where it goes."""
