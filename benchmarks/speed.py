"""Time, quality and memory of one update, side by side with the TRPO of Tianshou, SB3-contrib and skrl.

    python benchmarks/speed.py                  # measure all (nothing else may run), write results, tables, figures
    python benchmarks/speed.py --only growth    # measure a part, keep the rest of the results
    python benchmarks/speed.py --device cuda    # the growth of the time, on an accelerator
    python benchmarks/speed.py --table          # tables and figures only, from the committed results
    python benchmarks/speed.py --quick          # all at toy size, in seconds, nothing is written

One thread. The sides begin at the same networks, moments of the critic's optimiser and rollout, and take turns; a
ratio is the median over rounds of the quotient within a round. What differs is said in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from typing import Any

import common
import gymnasium as gym
import torch
from updates.cases import CASES, quick_cases
from updates.compare import compare
from updates.figures import figures, growth_figure, sides_figure
from updates.growth import POINTS, growth
from updates.memory import peak, peak_in_fresh_process
from updates.sides import ALL, MICRO_BATCHES, available
from updates.tables import summary, tables

from trpo_ts.diagnostics import write_report

PARTS = ("updates", "growth", "memory")
MEMORY_SAMPLES, GROWTH_ROUNDS = 200_000, 9
MEMORY_SIDES = (*ALL, MICRO_BATCHES)


def measure(parts: Sequence[str], device: str = "cpu") -> None:
    """Measure, and write each part to the results as it is done."""
    data: dict[str, Any] = common.load("speed") if (common.RESULTS / "speed.json").exists() else {}
    if "updates" in parts:
        data |= {"environment": common.environment(), "cases": []}
        for case in CASES:
            data["cases"].append(compare(case))
            print(json.dumps(data["cases"][-1], indent=1), flush=True)
            common.save("speed", data)
    if "growth" in parts:
        name = "one CPU thread" if device == "cpu" else torch.cuda.get_device_name()
        data.setdefault("growth", {})[name] = growth(POINTS, GROWTH_ROUNDS, device)
        common.save("speed", data)
    if "memory" in parts:
        data["memory"] = {name: round(peak_in_fresh_process(name, MEMORY_SAMPLES), 1) for name in MEMORY_SIDES}
        print(data["memory"], flush=True)
        common.save("speed", data)


def quick() -> dict[str, Any]:
    """Return the same results from updates so small that they say nothing but that all of it runs."""
    points = ((64, 64), (128, 64), (4096, 8))
    return {
        "environment": common.environment(),
        "cases": [compare(case) for case in quick_cases()],
        "growth": {"one CPU thread": growth(points, 1)},
        "memory": {name: peak(name, 256) for name in available(MEMORY_SIDES)},
    }


def write_documents(data: dict[str, Any]) -> None:
    """Write the tables, the README's sentence, the images and the interactive figures."""
    for name, text in tables(data).items():
        common.write_between_markers(common.ROOT / "docs" / "benchmarks.md", name, text)
        print(text, end="\n\n")
    common.write_between_markers(common.ROOT / "README.md", "speed", summary(data))
    common.save_image(sides_figure(data["cases"]), "update.png")
    for part in list(data.get("growth", {}).values())[:1]:
        common.save_image(growth_figure(part["points"], "samples"), "update_growth.png")
    environment = data["environment"]
    report = write_report(
        common.ROOT / "runs" / "benchmarks" / "speed.html",
        figures(data),
        {"processor": environment["processor"], "threads": environment["threads"], **environment["versions"]},
        title="One update of TRPO",
        description="Times are medians; ratios are medians of quotients within a round.",
    )
    print(report)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure unless only the documents are asked for."""
    parser = argparse.ArgumentParser(description="Time, quality and memory of one update.")
    parser.add_argument("--table", action="store_true", help="only write the documents, from the committed results")
    parser.add_argument("--quick", action="store_true", help="run all at toy size, print the tables, write nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the growth on an accelerator")
    args = parser.parse_args(arguments)
    if args.device != "cpu":
        args.only = ("growth",)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    gym.logger.min_level = gym.logger.ERROR
    if args.quick:
        data = quick()
        print(*tables(data).values(), sep="\n\n")
        return
    if not args.table:
        measure(args.only, args.device)
    write_documents(common.load("speed"))


if __name__ == "__main__":
    main()
