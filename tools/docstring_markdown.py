"""Docstrings as Markdown, for the documentation site: an extension of griffe, which reads the sources for mkdocstrings.

The package's docstrings are reStructuredText, as Tianshou's are. What they use of it becomes Markdown: roles, formulas,
doctests.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

__all__ = ["DocstringMarkdown", "markdown_of"]

_MATH_BLOCK = re.compile(r"^(?P<indent> *)\.\. math:: *(?P<body>.*(?:\n(?P=indent) +\S.*)*)$", re.MULTILINE)
_MATH = re.compile(r":math:`([^`]+)`")
_ROLE = re.compile(r":(?:class|meth|func|attr|mod|data|exc):`(~?)\.?([\w.]+)`")
_DOCTEST = re.compile(r"(?:^ *>>> .*\n(?:^ *\S.*\n?)*)+", re.MULTILINE)


class DocstringMarkdown(griffe.Extension):
    """Convert each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert the docstring of a module, class, function or attribute."""
        _convert(obj)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Convert the docstring of the package itself, which griffe does not count among the objects."""
        _convert(pkg)


def _convert(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        obj.docstring.value = markdown_of(obj.docstring.value)


def markdown_of(docstring: str) -> str:
    """Return a docstring's text with Markdown in place of reStructuredText."""
    text = _DOCTEST.sub(_fenced, docstring)
    text = _MATH_BLOCK.sub(_display, text)
    text = _MATH.sub(lambda match: f"${' '.join(match[1].split())}$", text)
    return _ROLE.sub(_reference, text)


def _fenced(match: re.Match[str]) -> str:
    return f"```pycon\n{textwrap.dedent(match[0]).rstrip()}\n```\n"


def _display(match: re.Match[str]) -> str:
    formula = " ".join(match["body"].split())
    if r"\\" in formula:  # as Sphinx does with formulas of several lines
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    return f"\n$$\n{formula}\n$$\n"


def _reference(match: re.Match[str]) -> str:
    """Return a link to an object, where the site documents it; its name alone where not."""
    short, name = match.groups()
    shown = name.rpartition(".")[2] if short else name
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>'
