"""Time, quality and memory of one update, side by side with the TRPO of Tianshou, SB3-contrib and skrl.

    python benchmarks/speed.py                  # measure all (nothing else may run), write results and documents
    python benchmarks/speed.py --only growth    # measure a part, keep the rest of the results
    python benchmarks/speed.py --device cuda    # the growth of the time, on an accelerator
    python benchmarks/speed.py --table          # the documents only, from the committed results

One thread. The sides begin at the same networks, moments of the critic's optimiser and rollout, and take turns; a
ratio is the median over rounds of the quotient within a round. docs/benchmarks.md says what differs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import common
import gymnasium as gym
import torch
from updates.cases import CASES, GROWTH
from updates.documents import growth_figure, sides_figure, summary, tables
from updates.measure import compare, grow, peak_memory_of_fresh_process
from updates.sides import ALL, MICRO_BATCHES

PARTS = ("updates", "growth", "memory")
MEMORY_SAMPLES, GROWTH_ROUNDS, CPU = 200_000, 9, "one CPU thread"
MEMORY_SIDES = (*ALL, MICRO_BATCHES)


def measure(parts: Sequence[str], device: str) -> None:
    """Measure, and write each part to the results as it is done."""
    data: dict[str, Any] = common.load("speed")
    if "updates" in parts:
        data |= {"environment": common.environment(), "cases": []}
        for case in CASES:
            data["cases"].append(compare(case))
            print(json.dumps(data["cases"][-1], indent=1), flush=True)
            common.save("speed", data)
    if "growth" in parts:
        name = CPU if device == "cpu" else torch.cuda.get_device_name()
        points = [grow(samples, width, GROWTH_ROUNDS, device) for samples, width in GROWTH]
        data.setdefault("growth", {})[name] = {"environment": common.environment(), "points": points}
        common.save("speed", data)
    if "memory" in parts:
        data["memory"] = {name: peak_memory_of_fresh_process(name, MEMORY_SAMPLES) for name in MEMORY_SIDES}
        common.save("speed", data)


def write_documents(data: dict[str, Any]) -> None:
    """Write the tables, the README's sentence and the images."""
    for name, text in tables(data).items():
        common.write_between_markers(common.ROOT / "docs" / "benchmarks.md", name, text)
    common.write_between_markers(common.ROOT / "README.md", "speed", summary(data))
    common.save_image(sides_figure(data["cases"]), "update.png")
    common.save_image(growth_figure(data["growth"][CPU]["points"]), "update_growth.png")


def main() -> None:
    """Measure unless only the documents are asked for."""
    parser = common.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the growth on an accelerator")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    gym.logger.min_level = gym.logger.ERROR
    if not args.table:
        measure(args.only if args.device == "cpu" else ("growth",), args.device)
    write_documents(common.load("speed"))


if __name__ == "__main__":
    main()
