def tables(data): return {}
