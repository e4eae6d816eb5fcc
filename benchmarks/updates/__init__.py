"""The parts of the benchmark of one update; `benchmarks/speed.py` puts them together."""
