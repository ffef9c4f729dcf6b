"""Memory that queues allocate and free in order with their other work."""
