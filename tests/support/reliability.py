"""A thousand random trainings, many of which are disturbed: what breaks.

    python tests/support/reliability.py            # the cases that results/reliability.json lacks, and the table
    python tests/support/reliability.py --table    # the table in docs/reliability.md only, from the committed results

fault_injection.py draws each case from its number, and disturbs it.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from fault_injection import COUNTS, KINDS, MUST_BE_ZERO, run
from repository import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import common

CASES = 1000


def table(results: list[dict[str, Any]]) -> str:
    """Return the table of the counts per kind of disturbance."""
    header = ["", *(kind.__name__.replace("_", " ") for kind, _ in KINDS), "all"]
    groups = [[r for r in results if r["kind"] == kind.__name__] for kind, _ in KINDS] + [results]
    rows = [["cases", *(f"{len(group):,}" for group in groups)]]
    rows += [
        [f"**{label}**" if name in MUST_BE_ZERO else label, *(f"{sum(r.get(name, 0) for r in g):,}" for g in groups)]
        for name, label in COUNTS.items()
    ]
    return common.markdown_table(header, rows)


def measure(results: list[dict[str, Any]]) -> None:
    """Run the cases that the results lack, and save after each."""
    torch.set_num_threads(1)
    done = {result["case"] for result in results}
    for number in sorted(set(range(CASES)) - done):
        results.append(run(number))
        common.save("reliability", {"environment": common.environment(), "cases": results})
        if any(results[-1].get(name) for name in MUST_BE_ZERO) or number % 50 == 0:
            print(results[-1], flush=True)


if __name__ == "__main__":
    cases = common.load("reliability").get("cases", [])
    if not common.parser(__doc__).parse_args().table:
        measure(cases)
    common.write_between_markers(common.ROOT / "docs" / "reliability.md", "reliability", table(cases))
