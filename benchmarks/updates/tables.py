"""The tables and the sentence that the documents take from the results."""

from __future__ import annotations

from typing import Any

import common

from updates.cases import LARGE, SMALL
from updates.sides import BASELINE, GAUSS_NEWTON, MICRO_BATCHES, TIANSHOU_LIKE

__all__ = ["summary", "tables"]

ACCURACY = """## A solve to equal accuracy

The fewest products, and the time, in which conjugate gradient reaches an optimality, with the preconditioner
`KFAC(relative_damping=0.0)` and without it, on the same products. The time includes building the preconditioner."""
GROWTH = """## Growth

Time over the rollout's size at width 64, and over the width of both hidden layers at 4,096 samples: synthetic rollouts,
17 observations, 6 actions.

![Time of an update over the samples of its rollout, and relative to Tianshou's](images/update_growth.png)"""


def tables(data: dict[str, Any]) -> dict[str, str]:
    """Return the tables by their names in the documents; a section that has no data is empty."""
    return {
        "speed": _sides(data["cases"]),
        "accuracy": _accuracy(data["cases"]),
        "growth": _growth(data.get("growth", {})),
        "memory": _memory(data["memory"]),
    }


def _sides(cases: list[dict[str, Any]]) -> str:
    rows = [
        [
            case["case"],
            name,
            f"{side['milliseconds']:.1f} ms",
            f"{side['speed_up']:.2f}",
            _number(side.get("products"), ".0f"),
            f"{side['optimality']:.3f}",
            _number(side.get("critic_error"), ".4f"),
            _number(side.get("critic_error_held_out"), ".4f"),
        ]
        for case in cases
        for name, side in case["sides"].items()
    ]
    header = ["update", "side", "time", "times as fast", "products", "optimality", "critic error", "held out"]
    return common.markdown_table(header, rows)


def _accuracy(cases: list[dict[str, Any]]) -> str:
    rows = [
        [case["case"], f"{row['damping']:g}", f"{row['target']:g}"]
        + [f"{_products(row['products'][name])}, {row['milliseconds'][name]:.1f} ms" for name in ("K-FAC", "plain")]
        + [f"{row['speed_up']:.2f}"]
        for case in cases
        for row in case.get("accuracy", [])
    ]
    header = ["update", "damping", "optimality", "K-FAC", "plain conjugate gradient", "times as fast"]
    return f"{ACCURACY}\n\n{common.markdown_table(header, rows)}" if rows else ""


def _growth(devices: dict[str, Any]) -> str:
    header = ["samples", "width", *TIANSHOU_LIKE, *(f"{name}: times as fast" for name in TIANSHOU_LIKE[1:])]
    parts = [GROWTH] if devices else []
    for device, part in devices.items():
        rows = [
            [f"{point['samples']:,}", str(point["width"])]
            + [f"{point['milliseconds'][name]:.1f} ms" for name in TIANSHOU_LIKE]
            + [f"{point['speed_up'][name]:.2f}" for name in TIANSHOU_LIKE[1:]]
            for point in part["points"]
        ]
        parts += [f"On {device}:", common.markdown_table(header, rows)]
    return "\n\n".join(parts)


def _memory(megabytes: dict[str, float]) -> str:
    rows = [[name, f"{value:.0f} MB", f"{value / megabytes[BASELINE]:.2f}"] for name, value in megabytes.items()]
    return common.markdown_table(["side", "peak above the rollout", "of Tianshou's"], rows)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def summary(data: dict[str, Any]) -> str:
    """Return the sentence of the README."""
    speed_up = {case["case"]: f"{case['sides'][GAUSS_NEWTON]['speed_up']:.1f}" for case in data["cases"]}
    memory_ratio = data["memory"][MICRO_BATCHES] / data["memory"][BASELINE]
    return (
        f"An update with `GaussNewtonFit()` is {speed_up[SMALL]} times as fast as Tianshou's for {SMALL} and "
        f"{speed_up[LARGE]} times for\n{LARGE}; with `micro_batch_size=4096` an update of 200,000 samples takes "
        f"{memory_ratio:.2f}\nof its memory."
    )


def _products(count: int) -> str:
    return f"{count} product{'' if count == 1 else 's'}"
