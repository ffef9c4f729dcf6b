"""D: what a device declares, and what it turns out to have."""
