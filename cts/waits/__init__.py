"""W: host waits of semaphores that do not fail meanwhile."""
