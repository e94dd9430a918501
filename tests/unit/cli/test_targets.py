"""What commands work on: an ini file, an application, a URL, the environment, or the folder."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pulse.cli.main import main
from pulse.cli.moments import shown_second, zone_of_task
from pulse.store.steering import TaskState
from tests.support.terminal import at_terminal

if TYPE_CHECKING:
    from pathlib import Path

INI = """\
[filter:pulse]
use = egg:pulse
pulse.config.name = shop
pulse.config.store = sqlite:///shop.db
pulse.task.cleanup.action = /cleanup
pulse.task.cleanup.cron = 30 2 * * *
pulse.task.cleanup.timezone = Europe/Berlin

[app:main]
use = call:site:make
filter-with = pulse
"""

SITE = """\
from pulse import PulseMiddleware, Task

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]

def make(global_conf=None, **settings):
    return app

def create_app():
    tasks = {"cleanup": Task(action="/cleanup", interval="5m")}
    return PulseMiddleware(app, store="sqlite:///shop.db", name="shop", tasks=tasks)

wrapped = create_app()
quiet = PulseMiddleware(app, store="memory:", tasks={"cleanup": Task(action="/c", interval="5m")})
"""

SERVE = """\
import sys
sys.path.insert(0, "")
import site_module
from pulse.clock import SystemClock
from pulse.store.factory import choose_store
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member

settings = site_module.wrapped.runtime.settings
store, _ = choose_store(
    settings.store, StoreOptions(name="shop"), clock=SystemClock(), origin=settings.origin
)
store.open(this_member("threading", settings.digest, 30_000_000))
store.sync(settings.tasks)
store.close()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working directory with a site whose server has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("PULSE_STORE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delitem(sys.modules, "site_module", raising=False)
    (tmp_path / "shop.ini").write_text(INI.replace("call:site:", "call:site_module:"))
    (tmp_path / "site_module.py").write_text(SITE)
    subprocess.run([sys.executable, "-c", SERVE], check=True, timeout=60)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["shop.ini"],
        ["cleanup", "shop.ini"],
        ["site_module:wrapped"],
        ["site_module:create_app()"],
        ["--store", "sqlite:///shop.db", "--name", "shop"],
    ],
)
def test_target_leads_to_the_store_of_its_settings(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With or without the name of a task before it."""
    assert folder
    assert main(["tasks", *words]) == 0
    heads, row = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert dict(zip(heads, row, strict=True))["task"] == "cleanup"


def test_only_ini_file_of_the_folder_is_taken_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two the command takes none."""
    assert main(["tasks"]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert (first, second[:32]) == ("pulse: shop.ini", "pulse: no process serves these t")
    (folder / "other.ini").write_text((folder / "shop.ini").read_text())
    assert main(["tasks"]) == 2
    assert "several: other.ini, shop.ini" in capsys.readouterr().err
    (folder / "other.ini").unlink()
    (folder / "shop.ini").unlink()
    assert main(["tasks"]) == 2
    assert "expected FILE.ini, package.module:app" in capsys.readouterr().err
    assert main(["tasks", "site_app"]) == 2
    assert "('site_app' was read as the name of a task)" in capsys.readouterr().err


def test_target_may_follow_an_option_that_follows_the_task(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another word is an error of that command."""
    assert folder
    assert main(["runs", "cleanup", "--failed", "shop.ini"]) == 0
    with pytest.raises(SystemExit):
        main(["runs", "cleanup", "--failed", "shop.ini", "more"])
    assert "usage: pulse runs" in capsys.readouterr().err


def test_store_in_which_the_application_has_a_name_is_said_to_need_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application of the file has a name, and the URL has none."""
    assert folder
    assert main(["tasks", "shop.ini", "--json"]) == 0
    monkeypatch.chdir(folder)
    url = f"sqlite:///{folder}/shop.db"
    capsys.readouterr()
    for words in (["tasks"], ["ledger"], ["pause", "cleanup"]):
        assert main([*words, "--store", url]) == 4
        printed = capsys.readouterr()
        assert "name its application (pulse.config.name) by --name" in printed.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--store", "sqlite:///gone.db"], "expected a file that a server has made"),
        (["site_module:quiet"], "expected a store that this command can reach"),
        (["--store", "postgresql://nobody@127.0.0.1:1/none"], "127.0.0.1"),
        (["--store", "redis://127.0.0.1:1"], "127.0.0.1"),
    ],
)
def test_store_that_is_not_reached_ends_with_4(
    folder: Path, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file is made."""
    assert main(["tasks", *words]) == 4
    assert problem in capsys.readouterr().err
    assert not (folder / "gone.db").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["tasks", "gone.ini"], "gone.ini"),
        (["tasks", "site_module:gone"], "expected a name in module site_module"),
        (["tasks", "no_module:app"], "expected an application to load"),
        (["tasks", "site_module:make"], "site_module:make"),
        (["tasks", "shop.ini", "--store", "sqlite:///shop.db"], "expected no target beside it"),
        (["tasks", "shop.ini", "--name", "other"], "expected a name that shop.ini configures"),
        (["tasks", "--store", "mysql://host"], "store"),
        (["pause"], "expected the name of a task or --all"),
        (["pause", "cleanup", "--all"], "expected the name of a task or --all"),
        (["pause", "cleanup", "--until", "soon"], "a time such as 2026-11-28T03:00"),
        (["pause", "cleanup", "--until", "2020-01-01"], "until"),
        (["runs", "--outcome", "broken"], "broken"),
        (["why", "cleanup", "noon"], "a time such as 2026-11-28T03:00"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_was_expected(
    folder: Path, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that configures nothing, and an argument that is no time."""
    assert folder
    assert main(words) == 2
    assert problem in capsys.readouterr().err


def test_time_without_an_offset_is_in_the_zone_of_the_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So a person writes the time of the clock on the wall; `--utc` changes what is printed."""
    (folder / "zone.py").write_text(
        SITE.replace('interval="5m"', 'cron="30 2 * * *", timezone="Asia/Tokyo"')
    )
    (folder / "shop.db").unlink()
    subprocess.run(
        [sys.executable, "-c", SERVE.replace("site_module", "zone")], check=True, timeout=60
    )
    assert main(["why", "cleanup", "2100-06-01T02:30", "zone:wrapped"]) == 0
    assert "cleanup 2100-06-01 02:30:00+09:00: open" in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "zone")  # as in a process of its own
    assert main(["why", "cleanup", "2100-06-01T02:30", "zone:wrapped", "--utc"]) == 0
    assert "cleanup 2100-05-31 17:30:00Z: open" in capsys.readouterr().out


def test_terminal_shows_a_table_of_at_most_80_columns(folder: Path) -> None:
    """Without colours if `NO_COLOR` is set."""
    assert folder
    printed, status = at_terminal(["tasks", "shop.ini"], NO_COLOR="1")
    assert status == 0, printed
    lines = printed.replace("\r", "").splitlines()
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]
    assert plain[0].split()[:2] == ["task", "schedule"]
    assert "\t" not in printed
    assert "\x1b[3" not in printed
    assert max(map(len, plain)) <= 80


def test_application_module_is_checked_and_simulated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an ini file is."""
    assert folder
    assert main(["check", "site_module:wrapped"]) == 0
    assert "cleanup: GET /cleanup, interval = 5m" in capsys.readouterr().out
    assert main(["simulate", "site_module:create_app()", "--for", "1d"]) == 0
    assert "\t287\t" in capsys.readouterr().out
    assert main(["check", "site_module:gone"]) == 2


def test_completion_script_is_one_that_the_shell_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bash knows then how to complete `pulse`."""
    assert main(["completion", "bash"]) == 0
    script = f"{capsys.readouterr().out}\ncomplete -p pulse\n"
    found = subprocess.run(
        ["bash", "-s"], input=script, text=True, capture_output=True, check=True, timeout=60
    )
    assert "pulse" in found.stdout


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["tasks", "runs", "fleet", "audit"])
def test_command_on_a_url_loads_no_part_of_a_server(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first output comes within a quarter of a second, most of which is the import."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # coverage loads more
    names = ["runtime", "serving", "wsgi.dispatcher", "scheduler.loop", "web.api"]
    unneeded = [f"pulse.{name}" for name in names] + ["paste.deploy", "importlib.metadata", "rich"]
    code = (
        "import sys\n"
        "from pulse.cli.main import main\n"
        f"main([{command!r}, '--store', 'sqlite:///shop.db', '--name', 'shop'])\n"
        f"print([name for name in {unneeded} if name in sys.modules], file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stderr.splitlines()[-1] == "[]"


def test_zone_that_this_host_does_not_have_is_shown_in_utc() -> None:
    """A later release, or a host with newer zones, has stored the task."""
    state = TaskState(
        name="work", partition="", source="config", digest="", paused=False, anchor=0,
        next_fire=0, last_decided=None, unfinished=0, schedule={"timezone": "Mars/Olympus"},
    )  # fmt: skip
    assert shown_second(state.next_fire, zone_of_task(state)) == "1970-01-01 00:00:00Z"
