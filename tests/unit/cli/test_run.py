"""`pulse run` where no store has the run, with an ini file, and at a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pulse.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SITE = """
import logging
import sys
import time

PATCHED
from pulse import PulseMiddleware, Task


def site(environ, start_response):
    logging.getLogger("site").info("logged by the view")
    path = environ["PATH_INFO"]
    if path == "/wait":
        print("waiting", flush=True)
        time.sleep(30)
    if path == "/none":
        return None
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written, ")
    return [f"{environ['REQUEST_METHOD']} {environ['wsgi.input'].read().decode()}".encode()]


TASKS = {
    "work": Task(action="/work", interval=10),
    "none": Task(action="/none", interval=10),
    "wait": Task(action="/wait", interval=10, timeout=0.5),
    "long": Task(action="/wait", interval=10, timeout=60),
}
app = PulseMiddleware(site, store="memory:", tasks=TASKS)
one = PulseMiddleware(site, store="memory:", name="one", tasks=TASKS)


def both(environ, start_response):
    return (app if environ["PATH_INFO"] else one)(environ, start_response)
"""

PLAIN = """
import logging


def make_site(global_conf, **local_conf):
    def site(environ, start_response):
        logging.getLogger("site").info("logged by the view")
        start_response("200 OK", [])
        return [b"plain"]

    return site
"""

INI = """\
[pipeline:main]
pipeline = pulse site

[pipeline:other]
pipeline = site

[filter:pulse]
use = egg:pulse
pulse.config.store = sqlite:///unused.db
pulse.task.work.action = /work
pulse.task.work.interval = 10

[app:site]
paste.app_factory = plain_site:make_site

[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stdout,)
formatter = plain

[formatter_plain]
format = by the ini file: %(message)s
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a site, and an ini file that uses it."""
    (tmp_path / "run_site.py").write_text(SITE.replace("PATCHED", ""))
    (tmp_path / "run_patched.py").write_text(
        SITE.replace("PATCHED", "from gevent import monkey; monkey.patch_all()")
    )
    (tmp_path / "plain_site.py").write_text(PLAIN)
    (tmp_path / "site.ini").write_text(INI)
    return tmp_path


@pytest.fixture
def pulse(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command in that folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pulse", "run", *words]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_run_with_a_memory_store_is_not_recorded(
    pulse: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """What the application logs goes to stderr; what it writes is part of the body."""
    done = pulse("work", "run_site:app", "--body", "x")
    assert done.returncode == 0
    assert "written, GET x" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == (
        "not recorded: memory: is inside each process of the server"
    )
    assert "INFO site: logged by the view" in done.stderr


def test_ini_file_is_loaded_as_a_server_does_with_its_loggers(
    pulse: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """A handler for stdout writes to stderr; the file of the store is not made."""
    done = pulse("work", "site.ini")
    assert (done.returncode, done.stderr) == (0, "by the ini file: logged by the view\n")
    assert done.stdout.splitlines()[-1].startswith("not recorded: no server has used sqlite:///")


def test_application_without_pulse_is_refused(
    pulse: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """As are no file, an unknown application of a file, and one that cannot be loaded."""
    for words, expected in (
        (["site.ini", "--app", "other"], "expected one PulseMiddleware, got none"),
        (["gone.ini"], "gone.ini: expected an ini file, or package.module:app, got no file"),
        (["site.ini", "--app", "gone"], "site.ini: expected an application to load, got LookupErr"),
        (["run_site:gone"], "run_site:gone: expected a name in module run_site, got 'gone'"),
        (["run_site:both"], "got one, one without a name; choose by --name"),
    ):
        done = pulse("work", *words)
        assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
    assert pulse("work", "run_site:both", "--name", "one").returncode == 0


def test_application_that_breaks_the_protocol_fails(
    pulse: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The message is that of a run in a server."""
    done = pulse("none", "run_site:app")
    assert done.returncode == 1
    assert "the app's answer: expected an iterable of bytes, got None" in done.stdout


def test_run_has_no_timeout_on_request(
    pulse: Callable[..., subprocess.CompletedProcess[str]], folder: Path
) -> None:
    """As for a debugger."""
    file = folder / "run_site.py"
    file.write_text(file.read_text().replace("time.sleep(30)", "time.sleep(1.5)"))
    assert "timed_out" in pulse("wait", "run_site:app").stdout
    assert "succeeded in 1.5" in pulse("wait", "run_site:app", "--no-timeout").stdout


def test_timeout_interrupts_a_run_in_a_patched_process(
    pulse: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Where it waits."""
    done = pulse("wait", "run_patched:app")
    assert (done.returncode, "timed_out in " in done.stdout) == (1, True), done.stderr
    assert "time.sleep(30)" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["run_site", "run_patched"])
def test_signal_interrupts_the_run(folder: Path, number: int, module: str) -> None:
    """The command says where the view was, and ends with 130."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pulse", "run", "long", f"{module}:app"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "waiting\n":
            break
    process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped at the terminal; it was here:" in printed
    assert ", in site\n" in printed


def test_two_bodies_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the application is loaded."""
    assert main(["run", "work", "nowhere:app", "--body", "a", "--body-file", "b"]) == 2
    assert "expected one of --body and --body-file" in capsys.readouterr().err
