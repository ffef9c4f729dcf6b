"""Functions of the host that a queue calls in order with its other work."""
