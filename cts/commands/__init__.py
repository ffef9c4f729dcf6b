"""Command lists: used again, recorded early, long, and in order."""
