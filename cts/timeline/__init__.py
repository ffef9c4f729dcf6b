"""TL: the timeline."""
