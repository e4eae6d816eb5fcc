"""Whole trainings: cases, sides, and the documents made of their measurements."""
