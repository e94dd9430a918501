"""The examples of the README and the documentation: what they show works."""

from __future__ import annotations

import configparser
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pulse.config.loader import load_paste
from pulse.middleware import PulseMiddleware
from tests.support.docs_extensions import load_extension
from tests.support.markdown import Block, blocks_of
from tests.support.requires_server import require_uwsgi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
FILES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(file for file in (ROOT / "docs").rglob("*.md") if "_build" not in file.parts),
]
BLOCKS = [block for file in FILES for block in blocks_of(file)]
TRIED = [block for block in BLOCKS if not block.reason]
PLAIN = {"text"}
SHELL = {"console"}
KINDS = {"interval", "cron", "at", "every"}
COMMON_COMMANDS = {"cd", "curl", "git", "kill", "make", "python3", "apt-get", "systemctl"}


def relative(file: Path) -> str:
    """Return the file's path below the repository."""
    return str(file.relative_to(ROOT))


def place(block: Block) -> str:
    """Return where a block stands."""
    return f"{relative(block.file)}:{block.line}"


def tried(*languages: str) -> pytest.MarkDecorator:
    """Parametrize a test with the blocks of some languages that are not marked."""
    chosen = [block for block in TRIED if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=place)


def answer(_environ: Mapping[str, object], start_response: object) -> list[bytes]:
    """Stand for the reader's own app."""
    start_response("200 OK", [])  # type: ignore[operator] # a WSGI server's
    return []


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_every_block_is_tried_or_says_why_not(block: Block) -> None:
    """A block is of a language that a test tries, or is preceded by the reason why none does."""
    is_directive = block.language.startswith("{")
    known = {"python", "ini"} | SHELL | PLAIN

    assert is_directive or block.language in known or block.reason, f"{place(block)} needs a mark"


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What a reader has: an app in a module, a Django site, a server that stops; and its names."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("site_app")
    module.app = answer  # type: ignore[attr-defined] # the reader's
    monkeypatch.setitem(sys.modules, "site_app", module)
    monkeypatch.setattr("django.core.wsgi.get_wsgi_application", lambda: answer)
    monkeypatch.setattr("waitress.serve", lambda _app, **_keywords: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    names: dict[str, object] = {"__name__": "example", "app": answer}
    yield names
    for made in names.values():  # one example begins at once, in this very process
        if isinstance(made, PulseMiddleware):
            made.runtime.shutdown(0)


@tried("python")
def test_a_python_block_runs(block: Block, reader: dict[str, object]) -> None:
    """A Python example runs from its first line to its last, with `app` as the reader's app."""
    code = compile(block.code, place(block), "exec")

    exec(code, reader)  # noqa: S102 - the documentation's own code


@tried("ini")
def test_pulse_takes_the_settings_of_an_ini_block(block: Block, tmp_path: Path) -> None:
    """Every section with settings of pulse in an ini example is a good configuration."""
    ini = configparser.ConfigParser(inline_comment_prefixes=(" ;",))
    ini.optionxform = str  # type: ignore[assignment,method-assign] # PasteDeploy keeps the case
    ini["DEFAULT"] = {"here": str(tmp_path), "mode": "threading"}
    ini.read_string(block.code if "[" in block.code else f"[filter:pulse]\n{block.code}")
    sections = [own_keys(ini[name]) for name in ini.sections()]

    loaded = [load_paste({}, keys) for keys in sections if keys]

    assert all(settings.digest for settings in loaded)


def own_keys(section: Mapping[str, str]) -> dict[str, str]:
    """Return the section's keys of pulse, with what an excerpt leaves out of a task."""
    keys = {name: value for name, value in section.items() if name.startswith("pulse.")}
    tasks = {name.rpartition(".")[0] for name in keys if name.startswith("pulse.task.")}
    scheduled = {name.rpartition(".")[0] for name in keys if name.rpartition(".")[2] in KINDS}
    rest = {f"{task}.action": "work" for task in tasks} | {
        f"{task}.interval": "60" for task in tasks - scheduled
    }
    return rest | keys if keys else {}


@tried(*SHELL)
def test_a_console_block_names_commands_that_exist(block: Block) -> None:
    """What follows a `$` is a common command, or one that the environment brings."""
    lines = re.findall(r"^\$ (.+)$", block.code, re.MULTILINE)
    words = [next(word for word in line.split() if "=" not in word) for line in lines]
    names = {Path(word).name for word in words} - COMMON_COMMANDS
    if "uwsgi" in names:
        require_uwsgi()

    unknown = {
        name for name in names if not shutil.which(name, path=str(Path(sys.executable).parent))
    }

    assert (bool(lines), unknown) == (True, set())


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_the_targets_that_are_named_exist(file: Path) -> None:
    """Each `make <target>` in the text is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"(?:`|^    |\$ )make ([a-z-]+)", file.read_text(), re.MULTILINE))

    assert named <= targets


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    """The README's tables of settings are what the code says; `make tables` writes them."""
    text = (ROOT / "README.md").read_text()

    assert (text, text.count("<!-- settings:")) == (load_extension("settings_table").renew(text), 2)
