"""Recurrent cells, the sequences of a rollout, and how networks with a memory go through them again."""
