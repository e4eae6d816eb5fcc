"""Learning curves of this package and of its peers on the same tasks."""
