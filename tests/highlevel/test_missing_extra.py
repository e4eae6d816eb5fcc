"""The package without the extra of the high-level API."""

from __future__ import annotations

import subprocess
import sys


def test_missing_extra_is_named_and_the_package_works_without():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['joblib', 'rliable', 'scipy']))\n"
        "import trpo_ts, trpo_ts.policies, trpo_ts.critics, trpo_ts.diagnostics\n"
        "try:\n    import trpo_ts.highlevel\n"
        "except ImportError as error:\n    assert 'constraints.txt \".[highlevel]\"' in str(error), error\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
