"""What the distribution contains: files, licence, description and version."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from setuptools.command.egg_info import FileList

import pulse
import setup

ROOT = Path(__file__).parents[2]
MADE = {"__pycache__", "_build", ".demo", ".hypothesis"}
"""Folders that tools make."""
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINK = re.compile(r"\]\(([^)#]+)")


@pytest.fixture
def manifest(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the files that MANIFEST.in adds to those of the package."""
    monkeypatch.chdir(ROOT)
    files = FileList()
    for line in Path("MANIFEST.in").read_text().splitlines():
        files.process_template_line(line)
    return set(files.files)


def files_of(folder: str) -> set[str]:
    """Return the files of a folder, without those that tools make."""
    paths = (path.relative_to(ROOT) for path in ROOT.joinpath(folder).rglob("*") if path.is_file())
    return {str(path) for path in paths if MADE.isdisjoint(path.parts) and path.suffix != ".pyc"}


@pytest.mark.parametrize("folder", [".ci", "bench", "changes", "docs", "examples", "tests"])
def test_source_distribution_contains_every_file_of_a_folder(
    folder: str, manifest: set[str]
) -> None:
    """Who has the source distribution can run the tests and build the documentation."""
    expected = files_of(folder)
    assert expected != set()
    assert expected - manifest == set()


@pytest.mark.parametrize(
    "file", ["CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "gunicorn.conf.py"]
)
def test_source_distribution_contains_the_files_of_the_project(
    file: str, manifest: set[str]
) -> None:
    """The files pyproject.toml, setup.py and README.md need no line in MANIFEST.in."""
    assert file in manifest


def test_source_distribution_contains_nothing_that_tools_make(manifest: set[str]) -> None:
    """No compiled module and no built page is distributed."""
    assert [file for file in manifest if file.endswith(".pyc") or "docs/_build" in file] == []


def test_the_licence_is_declared_and_distributed() -> None:
    """The expression is that of SPDX, and the file has the text."""
    assert (PROJECT["license"], PROJECT["license-files"]) == ("MIT", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License\n")
    assert PROJECT["authors"] == [{"name": "the pulse developers"}]
    assert "the pulse developers" in text


def test_links_of_the_readme_lead_to_files(manifest: set[str]) -> None:
    """In a clone and in the source distribution, each link works."""
    links = [link for link in LINK.findall(README) if "://" not in link]
    assert links != []
    assert [
        link for link in links if link not in manifest or not ROOT.joinpath(link).is_file()
    ] == []


def test_description_on_an_index_has_no_relative_link() -> None:
    """An index cannot follow one; the description has the path in the source distribution."""
    description = setup.description(README)
    assert [link for link in LINK.findall(description) if "://" not in link] == []
    assert "cron (`docs/howto/coming-from-cron.md`)" in description


def test_version_is_that_of_the_distribution() -> None:
    """There is one source of the version."""
    assert pulse.__version__ == version("pulse")


def test_version_costs_nothing_until_it_is_asked_for() -> None:
    """The import of the package loads no other module."""
    program = (
        "import sys, __future__, typing; before = set(sys.modules); import pulse;"
        " print(*(set(sys.modules) - before), pulse.__version__)"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout.split() == ["pulse", version("pulse")]
