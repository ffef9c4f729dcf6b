"""Q: submissions."""
