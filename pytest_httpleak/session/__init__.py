"""One run, test by test: the only state that changes."""
