"""What the main process of a worker knows of an application, and how it gets to know it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse.config.loader import load
from pulse.core.task import Task
from pulse.errors import ConfigError
from pulse.worker.settings import (
    NAME_VARIABLE,
    PASSED_ON_VARIABLE,
    TARGET_VARIABLE,
    WorkerSettings,
    WorkerTarget,
    load_worker_runtime,
    pass_on,
    passed_on,
    read_worker_settings,
    target_from_environment,
    target_of,
    worker_settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "S3CRETPW"  # noqa: S105 - a secret of this test alone
BROKER = f"amqp://shop:{SECRET}@mq//"
SETTINGS = WorkerSettings(
    broker=BROKER,
    queues=("pulse", "slow"),
)

SITE = """
import os
from pulse import PulseMiddleware, Task

print("a line of the application")

def answer(environ, start_response):
    start_response("200 OK", [])
    return [b""]

app = PulseMiddleware(
    answer,
    mode=os.environ.get("SITE_MODE", "celery"),
    broker="amqp://shop:S3CRETPW@mq//",
    store="sqlite:///" + os.environ["SITE_STORE"],
    tasks={"cleanup": Task(action="cleanup", interval=60, queue="slow")},
)
"""

INI = """
[app:main]
paste.app_factory = shop_paste:make

[app:other]
paste.app_factory = shop_paste:make
mode = threading
"""

PASTE = """
from pulse import PulseMiddleware

def make(global_conf, mode="celery"):
    return PulseMiddleware(lambda *_: [], mode=mode, broker="redis://mq", store="sqlite:////x.db")
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (TARGET_VARIABLE, NAME_VARIABLE, PASSED_ON_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an application, which is the working directory."""
    (tmp_path / "shop_worker_site.py").write_text(SITE)
    (tmp_path / "shop_paste.py").write_text(PASTE)
    (tmp_path / "site.ini").write_text(INI)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SITE_STORE", str(tmp_path / "pulse.db"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


# Targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop.wsgi:application", WorkerTarget(word="shop.wsgi:application")),
        ("shop.wsgi:make()", WorkerTarget(word="shop.wsgi:make()")),
        ("shop.initial:app", WorkerTarget(word="shop.initial:app")),
        ("config:/srv/production.ini", WorkerTarget(word="/srv/production.ini")),
        ("config:/srv/p.ini#admin", WorkerTarget(word="/srv/p.ini", section="admin")),
        ("config:/srv/p.ini#", WorkerTarget(word="/srv/p.ini")),
        ("/srv/production.ini", WorkerTarget(word="/srv/production.ini")),
        ("production.ini#admin", WorkerTarget(word="production.ini", section="admin")),
    ],
)
def test_a_target_is_an_ini_file_or_an_application(text: str, expected: WorkerTarget) -> None:
    """The section of a file is `main` unless it is named."""
    assert target_of(text) == expected
    named = msgspec.structs.replace(expected, name="shop")
    assert target_of(text, name="shop") == named


def test_a_target_is_the_same_by_each_path_of_its_file(tmp_path: Path) -> None:
    """Releases of a site are in folders of their own, to one of which a link leads."""
    (tmp_path / "42").mkdir()
    (tmp_path / "current").symlink_to("42")
    target = target_of(f"config:{tmp_path}/current/p.ini", name="shop")
    assert target.serves_as(target_of(f"{tmp_path}/42/../42/p.ini#main", name="shop"))
    assert not target.serves_as(target_of(f"{tmp_path}/42/p.ini"))
    assert not target.serves_as(target_of("shop.wsgi:app", name="shop"))


def test_the_environment_names_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """And which of several middlewares is meant."""
    monkeypatch.setenv(TARGET_VARIABLE, "config:/srv/p.ini#admin")
    assert target_from_environment() == WorkerTarget(word="/srv/p.ini", section="admin")
    monkeypatch.setenv(NAME_VARIABLE, "shop")
    assert target_from_environment().name == "shop"


@pytest.mark.parametrize("value", [None, ""])
def test_an_environment_without_a_target_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Somebody has called Celery by hand."""
    if value is not None:
        monkeypatch.setenv(TARGET_VARIABLE, value)
    with pytest.raises(ConfigError, match=r"expected PULSE_APP to name .* pulse worker FILE\.ini"):
        target_from_environment()


# Settings ---------------------------------------------------------------------------------


def test_the_queues_are_those_of_the_tasks_with_the_default_first() -> None:
    """Each once; a disabled task has none."""
    tasks = {
        "a": Task(action="a", interval=60, queue="slow"),
        "b": Task(action="b", interval=60),
        "c": Task(action="c", interval=60, queue="slow"),
        "d": Task(action="d", interval=60, queue="fast"),
        "e": Task(action="e", interval=60, queue="none", enabled=False),
    }
    keywords = {"mode": "celery", "broker": BROKER, "queue": "jobs", "lease": 12, "name": "shop"}
    settings = worker_settings_of(load(None, {**keywords, "tasks": tasks}))
    assert (settings.broker, settings.queues) == (BROKER, ("jobs", "slow", "fast"))
    assert SECRET not in repr(settings)


@pytest.mark.usefixtures("site")
def test_an_application_is_read_by_a_process_of_its_own(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The application is not imported here, and what it prints does not get into the settings."""
    settings = read_worker_settings(WorkerTarget(word="shop_worker_site:app"))
    assert (settings.broker, settings.queues) == (BROKER, ("pulse", "slow"))
    assert "shop_worker_site" not in sys.modules
    out, err = capfd.readouterr()
    assert (out, "a line of the application" in err, SECRET in err) == ("", True, False)


def test_a_section_of_an_ini_file_is_read(site: Path) -> None:
    """The one that is named."""
    settings = read_worker_settings(WorkerTarget(word=str(site / "site.ini")))
    assert settings.broker == "redis://mq"
    with pytest.raises(ConfigError, match=r"pulse\.config\.mode: expected celery.* 'threading'"):
        read_worker_settings(WorkerTarget(word=str(site / "site.ini"), section="other"))


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("shop_worker_site:missing", "shop_worker_site"),
        ("no_such_site:app", "no_such_site"),
        ("missing.ini", "expected an ini file, or package.module:app, got no file"),
    ],
)
def test_a_target_that_cannot_be_loaded_is_reported(word: str, text: str) -> None:
    """With the word that names it."""
    with pytest.raises(ConfigError) as caught:
        read_worker_settings(WorkerTarget(word=word))
    assert text in str(caught.value)
    assert word.partition(":")[0] in str(caught.value)


@pytest.mark.usefixtures("site")
def test_an_application_of_another_mode_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its web processes post no runs."""
    monkeypatch.setenv("SITE_MODE", "gevent")
    with pytest.raises(ConfigError) as caught:
        read_worker_settings(WorkerTarget(word="shop_worker_site:app"))
    assert caught.value.problems == (
        "pulse.config.mode: expected celery, so that processes post runs to workers, got 'gevent'",
    )


def test_every_problem_of_a_configuration_is_reported(site: Path) -> None:
    """One sentence each, as in the process that has found them."""
    (site / "bad_worker_site.py").write_text(
        "from pulse import PulseMiddleware\n"
        "app = PulseMiddleware(lambda *_: [], mode='celery', queue='a b', lease='x')\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_worker_settings(WorkerTarget(word="bad_worker_site:app"))
    text = str(caught.value)
    assert [key for key in ("broker:", "queue:", "lease:") if key in text] == [
        "broker:",
        "queue:",
        "lease:",
    ]


def test_a_process_that_dies_is_reported_with_its_status(site: Path) -> None:
    """The application has ended it."""
    (site / "dying_worker_site.py").write_text("import os\nos._exit(7)\n")
    with pytest.raises(ConfigError, match=r"dying_worker_site:app: .* ended with status 7"):
        read_worker_settings(WorkerTarget(word="dying_worker_site:app"))


def test_a_runtime_is_loaded_and_not_started(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the application, which keeps it alive."""
    monkeypatch.syspath_prepend(str(site))
    (site / "loaded_worker_site.py").write_text(SITE)
    app, runtime = load_worker_runtime(WorkerTarget(word="loaded_worker_site:app"))
    assert (list(runtime.settings.tasks), runtime.settings.mode) == (["cleanup"], "celery")
    assert (app is not None, (site / "pulse.db").exists()) == (True, False)


# Passing settings on ----------------------------------------------------------------------


@pytest.fixture
def passed() -> Iterator[int]:
    """Pass settings on; return the number of the file, which is closed after the test."""
    pass_on(SETTINGS)
    number = int(os.environ[PASSED_ON_VARIABLE])
    yield number
    os.environ.pop(PASSED_ON_VARIABLE, None)
    try:
        os.close(number)
    except OSError:
        return


def test_settings_are_passed_on_once(passed: int) -> None:
    """The file is closed and forgotten after that: a child of the worker has none of it."""
    assert passed_on() == SETTINGS
    assert (passed_on(), PASSED_ON_VARIABLE in os.environ) == (None, False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(passed)


@pytest.mark.usefixtures("passed")
def test_no_secret_is_in_the_environment() -> None:
    """Another user may see the environment of a process."""
    assert [name for name, value in os.environ.items() if SECRET in value] == []


@pytest.mark.usefixtures("passed")
def test_settings_reach_the_program_that_replaces_this_one() -> None:
    """Through `exec`, which keeps the file open."""
    inner = "from pulse.worker.settings import passed_on; print(passed_on().broker)"
    outer = (
        "import os, sys, msgspec\n"
        "from pulse.worker.settings import WorkerSettings, pass_on\n"
        f"pass_on(WorkerSettings(broker={BROKER!r}))\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {inner!r}])"
    )
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True)
    assert done.stdout == f"{BROKER}\n"


@pytest.mark.parametrize("value", [None, "", "x", "-1", "99999"])
def test_without_settings_there_are_none(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """A worker that was started by hand, or has detached, reads them itself."""
    if value is not None:
        monkeypatch.setenv(PASSED_ON_VARIABLE, value)
    assert passed_on() is None


def test_a_file_of_something_else_has_no_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The number may have been used again."""
    (tmp_path / "other").write_text("{")
    number = os.open(tmp_path / "other", os.O_RDONLY)
    monkeypatch.setenv(PASSED_ON_VARIABLE, str(number))
    assert passed_on() is None


def test_what_programs_of_the_site_print_is_no_part_of_the_settings(site: Path) -> None:
    """A program that the application runs as it is imported writes to the standard output."""
    loud = "import subprocess\nsubprocess.run(['echo', 'version 1'], check=True)\n"
    (site / "loud_site.py").write_text(loud + SITE)
    quiet = read_worker_settings(WorkerTarget(word="shop_worker_site:app"))
    assert read_worker_settings(WorkerTarget(word="loud_site:app")) == quiet


def test_modules_of_the_working_directory_are_found(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program such as `celery` does not look there by itself."""
    elsewhere = [part for part in sys.path if part not in {"", str(site)}]
    monkeypatch.setattr(sys, "path", [*elsewhere])
    _, runtime = load_worker_runtime(WorkerTarget(word=str(site / "site.ini")))
    assert runtime.settings.mode == "celery"
    assert sys.path == [str(site), *elsewhere]
    load_worker_runtime(WorkerTarget(word=str(site / "site.ini")))
    assert sys.path == [str(site), *elsewhere]
