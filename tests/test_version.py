"""One version: of the package, of what is built, of the changelog's newest release, of the citation."""

from __future__ import annotations

import datetime
import re
import tomllib

import yaml
from packaging.version import Version
from repository import ROOT
from setuptools.config.pyprojecttoml import read_configuration

import trpo_ts

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def releases() -> list[tuple[str, str]]:
    found = re.findall(r"^## \[([\d.]+)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert found
    return found


def test_what_is_built_has_the_packages_version():
    assert read_configuration(ROOT / "pyproject.toml")["project"]["version"] == trpo_ts.__version__


def test_the_changelog_begins_with_this_release_and_its_date():
    version, day = releases()[0]
    assert version == trpo_ts.__version__
    assert datetime.date.fromisoformat(day) == CITATION["date-released"]


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE)[0] == "[Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE)) <= kinds
    versions = [Version(version) for version, _ in releases()]
    assert versions == sorted(versions, reverse=True)


def test_the_citation_is_complete_and_of_this_version():
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)  # what the format 1.2.0 demands
    assert CITATION["cff-version"] == "1.2.0"
    assert str(CITATION["version"]) == trpo_ts.__version__
    assert CITATION["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]


def test_every_promised_python_is_one_that_the_metadata_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert named == ["3.11", "3.12", "3.13"]
    assert project["requires-python"] == f">={named[0]}"
