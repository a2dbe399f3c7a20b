"""Questions to the process itself: its descriptors, its pending tasks, what refers to an object."""
