"""The mathematics of natural-gradient steps: pure functions on tensors and closures."""
