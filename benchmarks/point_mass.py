"""The main job on ten seeds.

python benchmarks/point_mass.py            # train, write results/point_mass.json, and table and figure of README.md
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

SEEDS = range(10)
STEPS = 400_000
TARGET = -30.0
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
    """Return the table of all seeds."""
    rows = [
        [
            str(r["seed"]),
            f"{r['final_return_mean']:.2f}",
            f"{r['env_steps']:,}",
            f"{steps_to_target(r['curve']) or 0:,}",
            f"{r['wall_seconds']:.1f}",
            f"{r['max_kl_seen']:.4f}",
        ]
        for r in runs
    ]
    rows.append(
        [
            "mean",
            f"{np.mean([r['final_return_mean'] for r in runs]):.2f}",
            f"{np.mean([r['env_steps'] for r in runs]):,.0f}",
            f"{np.mean([steps_to_target(r['curve']) or 0 for r in runs]):,.0f}",
            f"{np.mean([r['wall_seconds'] for r in runs]):.1f}",
            f"{np.max([r['max_kl_seen'] for r in runs]):.4f} (largest)",
        ]
    )
    header = ["seed", "return, last five updates", "steps", f"steps to {TARGET:g}", "seconds", "largest KL"]
    note = f"\n\nThe best controller reaches {POINT_MASS_BEST_RETURN} on average (dynamic programming)."
    return common.markdown_table(header, rows) + note


def main() -> None:
    """Train on all seeds unless only the table is asked for."""
    if common.asked_to_measure("The main job on ten seeds."):
        runs = []
        for seed in SEEDS:
            runs.append(run(seed))
            print({k: v for k, v in runs[-1].items() if k != "curve"}, flush=True)
            common.save("point_mass", {"environment": common.environment(), "runs": runs})
    text = table(common.load("point_mass")["runs"])
    common.write_between_markers(common.ROOT / "README.md", "point-mass", text)
    print(text)


if __name__ == "__main__":
    main()
