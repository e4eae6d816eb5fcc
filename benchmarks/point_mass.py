"""The main job on ten seeds.

python benchmarks/point_mass.py            # train; write results/point_mass.json, the page's table and the figure
python benchmarks/point_mass.py --table    # the table only, from the committed results
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np

from trpo_ts.diagnostics import UpdateRecord, learning_figure, load_records
from trpo_ts.envs import POINT_MASS_BEST_RETURN

SEEDS, STEPS, TARGET = range(10), 400_000, -30.0
MAX_KL = 0.02  # the example's


def run(seed: int) -> dict[str, Any]:
    """Run the example as a user does, and return its summary and its learning curve."""
    with tempfile.TemporaryDirectory() as folder:
        script = common.ROOT / "examples" / "point_mass.py"
        command = [sys.executable, str(script), "--seed", str(seed), "--steps", str(STEPS), "--out", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        summary: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
        updates = [r for r in load_records(Path(folder, "records.jsonl")) if isinstance(r, UpdateRecord)]
    if seed == SEEDS[0]:
        figure = learning_figure(updates, MAX_KL, POINT_MASS_BEST_RETURN, "best controller")
        common.save_image(figure, "point_mass.png")
    summary["curve"] = [[u.env_steps, None if u.return_mean is None else round(u.return_mean, 3)] for u in updates]
    return summary


def steps_to_target(curve: list[list[float]]) -> int | None:
    """Return after how many steps the mean of five iterations first beat the target."""
    for i in range(4, len(curve)):
        window = [value for _, value in curve[i - 4 : i + 1] if value is not None]
        if window and np.mean(window) > TARGET:
            return int(curve[i][0])
    return None


def table(runs: list[dict[str, Any]]) -> str:
    """Return the table of all seeds, and their means."""
    columns = {
        "return, last five updates": (".2f", [r["final_return_mean"] for r in runs]),
        "steps": (",.0f", [r["env_steps"] for r in runs]),
        f"steps to {TARGET:g}": (",.0f", [steps_to_target(r["curve"]) or 0 for r in runs]),
        "seconds": (".1f", [r["wall_seconds"] for r in runs]),
        "largest KL": (".4f", [r["max_kl_seen"] for r in runs]),
    }
    rows = [[str(r["seed"]), *(f"{values[i]:{form}}" for form, values in columns.values())] for i, r in enumerate(runs)]
    means = [f"{np.mean(values):{form}}" for form, values in columns.values()]
    rows.append(["mean", *means[:-1], f"{max(columns['largest KL'][1]):.4f} (largest)"])
    note = f"\n\nThe best controller reaches {POINT_MASS_BEST_RETURN} on average (dynamic programming)."
    return common.markdown_table(["seed", *columns], rows) + note


def measure() -> None:
    """Train on all seeds, and save after each."""
    runs = []
    for seed in SEEDS:
        runs.append(run(seed))
        print({k: v for k, v in runs[-1].items() if k != "curve"}, flush=True)
        common.save("point_mass", {"environment": common.environment(), "runs": runs})


if __name__ == "__main__":
    if not common.parser(__doc__).parse_args().table:
        measure()
    text = table(common.load("point_mass")["runs"])
    common.write_between_markers(common.ROOT / "docs" / "point_mass.md", "point-mass", text)
