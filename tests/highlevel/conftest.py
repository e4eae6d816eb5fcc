"""Without the extra of the high-level API there is nothing to test here but its error."""

import importlib.util
from pathlib import Path

if all(importlib.util.find_spec(extra) for extra in ("joblib", "rliable", "scipy")):
    import matplotlib as mpl

    mpl.use("Agg")
else:
    collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if "extra" not in path.name]
