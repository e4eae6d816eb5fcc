"""Data-parallel trainings: what they take, where the time goes, and how it would grow."""
