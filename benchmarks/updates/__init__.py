"""The parts of the benchmarks `speed.py` and `critic.py`."""
