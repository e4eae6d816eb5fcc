"""Where the repository is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def between_markers(document: str, name: str) -> str:
    """Return what a generated part of a document holds."""
    text = (ROOT / document).read_text()
    return text.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()
