"""The backends that come with the suite. Each imports the interface and its own siblings, never another backend."""
