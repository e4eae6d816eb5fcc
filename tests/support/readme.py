"""What README.md tells its reader to type."""

from __future__ import annotations

import re
import shlex

from repository import ROOT

__all__ = ["python_block", "shell_block"]

_TEXT = (ROOT / "README.md").read_text()


def shell_block(heading: str) -> list[list[str]]:
    """Return the words of each command in the first block of commands below a heading."""
    _, _, below = _TEXT.partition(f"\n## {heading}\n")
    return [words for line in _blocks("sh", below)[0].splitlines() if (words := shlex.split(line, comments=True))]


def python_block(containing: str) -> str:
    """Return the one block of Python that contains a text."""
    (block,) = (block for block in _blocks("python", _TEXT) if containing in block)
    return block


def _blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
