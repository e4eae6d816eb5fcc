"""``python -m trpo_ts`` is the command ``trpo-ts``."""

import sys

from trpo_ts.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
