"""Pages of the documentation site that no file in docs/ holds: the API reference, and the sources that pages link to.

A hook of mkdocs. Pages name sources by relative paths such as ../trpo_ts/npg.py, which work in a checkout. For the site
each source that a page links to becomes a page, so that nothing leads out of the site.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

_OWN_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Documents at the top of the repository that are pages of their own."""

_LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "bash", ".md": "markdown", ".cff": "yaml"}
"""What is shown with its syntax; files of other kinds are copied as they are."""

_CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"""(?P<before>\]\(|(?:src|href)=")(?P<target>[^()\s":]+)(?=[)"])""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    written = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "docs").glob("*.md")}
    for name, uri in _OWN_PAGES.items():
        written[name] = (ROOT / name).read_text()
        files.append(File.generated(config, uri, content=written[name]))
    for path in sorted({path for name, text in written.items() for path in _linked(text, posixpath.dirname(name))}):
        if not path.startswith("docs/") and path not in _OWN_PAGES:
            files.append(_source(path, config))
    for package, names in _public_names():
        files.append(File.generated(config, f"api/{package}.md", content=_api_page(package, names)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files outside docs/ lead to the pages made of them."""
    uri = page.file.src_uri
    if uri.startswith(("source/", "api/")):
        return markdown
    original = next((name for name, own in _OWN_PAGES.items() if own == uri), f"docs/{uri}")

    def redirected(match: re.Match[str]) -> str:
        name, mark, anchor = match["target"].partition("#")
        if not name:
            return match[0]
        place = _uri(_resolved(name, posixpath.dirname(original)))
        return f"{match['before']}{posixpath.relpath(place, posixpath.dirname(uri) or '.')}{mark}{anchor}"

    return "".join(part if _CODE.match(part) else _LINK.sub(redirected, part) for part in _CODE.split(markdown))


def _linked(text: str, folder: str) -> Iterator[str]:
    """Yield the files and folders that a document links to, from the repository's root."""
    for match in _LINK.finditer(_CODE.sub("", text)):
        name = match["target"].partition("#")[0]
        if name:
            yield _resolved(name, folder)


def _resolved(target: str, folder: str) -> str:
    return posixpath.normpath(posixpath.join(folder, target))


def _uri(path: str) -> str:
    """Return where the site has a file of the repository."""
    if path in _OWN_PAGES:
        return _OWN_PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    is_page = (ROOT / path).is_dir() or Path(path).suffix in _LANGUAGES
    return f"source/{path}.md" if is_page else f"source/{path}"


def _source(path: str, config: MkDocsConfig) -> File:
    """Return a page of a source or a folder, or the file itself where it is data."""
    here, uri = ROOT / path, _uri(path)
    if not uri.endswith(".md"):
        return File.generated(config, uri, abs_src_path=str(here), inclusion=InclusionLevel.NOT_IN_NAV)
    body = _listing(here) if here.is_dir() else f"~~~~~~ {_LANGUAGES[here.suffix]}\n{here.read_text()}\n~~~~~~\n"
    head = "---\nsearch: {exclude: true}\n---\n\n"
    return File.generated(config, uri, content=f"{head}# `{path}`\n\n{body}", inclusion=InclusionLevel.NOT_IN_NAV)


def _listing(folder: Path) -> str:
    """Return a table of the files of a folder with the first line that each says of itself."""
    rows = ["| File | What it holds |", "| --- | --- |"]
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__")):
            continue
        says = ast.get_docstring(ast.parse(path.read_text())) if path.suffix == ".py" else None
        first, _, _ = (says or "").replace("|", r"\|").partition("\n")
        rows.append(f"| `{path.name}{'/' * path.is_dir()}` | {first} |")
    return "\n".join(rows)


def _public_names() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each package of ``trpo_ts`` with the public names that no package before it has, and their modules."""
    seen: set[tuple[str, str]] = set()
    for init in [ROOT / "trpo_ts" / "__init__.py", *sorted((ROOT / "trpo_ts").glob("*/__init__.py"))]:
        package = ".".join(init.relative_to(ROOT).parent.parts)
        names = {name: module for name, module in _exported(init).items() if (module, name) not in seen}
        seen |= {(module, name) for name, module in names.items()}
        if names:
            yield package, names


def _exported(init: Path) -> dict[str, str]:
    """Return the names in ``__all__`` of a package, each with the module that it is imported from."""
    tree = ast.parse(init.read_text())
    imported = {
        alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    exported: list[str] = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__"
        ),
        [],
    )
    return {name: imported[name] for name in exported if imported.get(name, "trpo_ts") != "trpo_ts"}


def _api_page(package: str, names: dict[str, str]) -> str:
    head = f"# `{package}`\n\n::: {package}\n    options:\n      members: []\n      show_root_heading: false\n"
    return head + "".join(f"\n::: {package}.{name}\n" for name in names)
