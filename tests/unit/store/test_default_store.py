"""The default store across releases, for users without a home, and without a usable folder."""

from __future__ import annotations

import errno
import logging
import pwd
import sys
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest

from pulse import PulseMiddleware, Task, events, runtime
from pulse.cli.main import main
from pulse.config.loader import load, load_paste
from pulse.errors import NotServingError
from pulse.store.folders import folder_problem
from pulse.store.sqlite import location
from pulse.store.sqlite.location import default_path, existing_path, folder_problems
from pulse.testing.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pulse.config.settings import Settings

KEYS = {"pulse.task.work.action": "/work", "pulse.task.work.interval": "24h"}


def answer(_environ: dict, start_response: Callable) -> list[bytes]:
    """Answer every request with 200."""
    start_response("200 OK", [])
    return [b"done"]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the state directory of the user; /var/tmp is replaced by a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(location, "own_folder", lambda _: tmp_path / "own")
    return tmp_path / "state"


# Releases ---------------------------------------------------------------------------------------


class Site:
    """A folder of releases, one of which is current."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = folder / "current"

    def deploy(self, release: str) -> None:
        """Let a new release be the current one."""
        target = self.folder / "releases" / release
        target.mkdir(parents=True)
        (target / "app.ini").touch()
        self.current.unlink(missing_ok=True)
        self.current.symlink_to(target)


class Begun(NamedTuple):
    """The store of a process, and its log lines at the start."""

    store: str
    said: list[str]


@pytest.fixture
def site(tmp_path: Path, state: Path) -> Site:
    """Return a site whose first release is current."""
    assert not state.exists()
    made = Site(tmp_path / "site")
    made.deploy("7")
    return made


def from_ini(site: Site) -> Settings:
    """Return the settings of the ini file of the current release."""
    return load_paste({"__file__": str(site.current / "app.ini")}, KEYS)


def from_folder(site: Site) -> Settings:
    """Return the settings of an app that starts in the folder of the current release."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(site.current)
        return load(KEYS, {})


def begin(settings: Settings, caplog: pytest.LogCaptureFixture) -> Begun:
    """Start and stop a process with these settings."""
    caplog.clear()
    app = PulseMiddleware(answer, settings)
    seen = Recorder(app.bus)
    app.runtime.start()
    (started,) = seen.wait_for(events.SchedulerStarted)
    app.runtime.shutdown(0)
    notices = [notice.text for notice in seen.of(events.Notice)]
    return Begun(started.store, [*notices, *(record.getMessage() for record in caplog.records)])


each_origin = pytest.mark.parametrize("read", [from_ini, from_folder])


@each_origin
def test_restart_of_a_release_has_the_same_store(
    read: Callable[[Site], Settings], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The tasks keep their positions."""
    assert begin(read(site), caplog).store == begin(read(site), caplog).store


@each_origin
def test_next_release_shares_the_store_or_warns(
    read: Callable[[Site], Settings], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that is due each day would never run under daily deploys, and a past date again.

    The remedy is a name for the application, or a store that the configuration names.
    """
    before = begin(read(site), caplog)
    site.deploy("8")
    after = begin(read(site), caplog)
    remedies = ("pulse.config.name", "pulse.config.store")
    warned = any(remedy in text for text in after.said for remedy in remedies)
    assert after.store == before.store or warned


def test_release_of_an_unknown_layout_warns_with_the_remedy(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name for the application determines the file, whatever the path is."""
    assert not state.exists()
    said = []
    for name in ("blue", "green", "green"):
        (tmp_path / name).mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path / name)
            said.append(begin(load(KEYS, {}), caplog).said)
    warned = [any("set pulse.config.name" in text for text in texts) for texts in said]
    assert warned == [False, True, False]


def test_process_with_another_home_warns_with_the_remedy(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name has no effect on the folder."""
    settings = load({**KEYS, "pulse.config.name": "shop"}, {})
    state.touch()
    begin(settings, caplog)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    said = begin(settings, caplog).said
    assert any("set pulse.config.store to" in text for text in said)


# A user without a home --------------------------------------------------------------------------


def no_entry(uid: int) -> None:
    """Raise as a table of users without this user does."""
    message = f"getpwuid(): uid not found: {uid}"
    raise KeyError(message)


@pytest.fixture
def homeless(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for a user who has neither HOME nor an entry in the table of users."""
    assert not state.exists()
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    return tmp_path / "own"


def test_user_without_a_home_has_a_store_in_a_private_folder(homeless: Path) -> None:
    """`docker run --user 12345` starts such a user."""
    path = default_path("shop", "/srv/shop.ini")
    assert path is not None
    assert path.parent == homeless


def test_simulate_finds_the_store_of_a_user_without_a_home(homeless: Path) -> None:
    """Without a store there is no history."""
    assert not homeless.exists()
    assert existing_path("shop", "/srv/shop.ini") is None


def test_app_of_a_user_without_a_home_starts(
    homeless: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker boots, and its tasks run."""
    begun = begin(load({**KEYS, "pulse.config.name": "shop"}, {}), caplog)
    assert str(homeless) in begun.store


# No folder will do ------------------------------------------------------------------------------


def put_a_file(folder: Path) -> None:
    """Put a file in the place of the folder."""
    folder.touch()


def open_to_all(folder: Path) -> None:
    """Permit all users to write to the folder, as if another user had created it."""
    folder.mkdir()
    folder.chmod(0o777)


@pytest.fixture(params=[put_a_file, open_to_all])
def unusable(request: pytest.FixtureRequest, state: Path, tmp_path: Path) -> tuple[str, str]:
    """Return the two folders of the default store, none of which is usable."""
    state.touch()
    request.param(tmp_path / "own")
    assert default_path("shop", "/srv/shop.ini") is None
    return str(state), str(tmp_path / "own")


@pytest.fixture
def served(unusable: tuple[str, str]) -> PulseMiddleware:
    """Return a middleware that has started in this process, one of an unknown number."""
    assert unusable
    # The name is unique, so that no other middleware of this process is taken for this one.
    tasks = {"work": Task(action="/work", interval="24h")}
    return PulseMiddleware(answer, name=uuid4().hex, start="eager", tasks=tasks)


def request_once(app: PulseMiddleware) -> tuple[list[str], bool]:
    """Send a request to the app; return its answer, and whether a scheduler runs then."""
    statuses: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/"}
    try:
        app(environ, lambda status, _: statuses.append(status))
        return statuses, bool(app.scheduler.tasks())
    except NotServingError:
        return statuses, False
    finally:
        app.runtime.shutdown(0)


def test_without_a_folder_the_application_is_served(served: PulseMiddleware) -> None:
    """A request is answered with or without a store."""
    assert request_once(served)[0] == ["200 OK"]


def test_without_a_folder_no_scheduler_starts(served: PulseMiddleware) -> None:
    """Each of several workers would run every tick."""
    assert request_once(served)[1] is False


def test_without_a_folder_one_error_names_the_folder_and_the_setting(
    served: PulseMiddleware, unusable: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The reader of the log learns what to change, and where."""
    with caplog.at_level(logging.INFO, logger="pulse"):
        request_once(served)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert any(folder in errors[0] for folder in unusable)
    assert "pulse.config.store" in errors[0]


def test_without_a_folder_check_ends_with_status_2(
    unusable: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reports the problem before a server does."""
    lines = [f"{key} = {value}" for key, value in KEYS.items()]
    file = tmp_path / "site.ini"
    file.write_text("\n".join(["[filter:pulse]", "use = egg:pulse", *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        status = main(["check", str(file)])
    found = capsys.readouterr().err
    assert (status, any(folder in found for folder in unusable)) == (2, True)


def test_without_a_folder_memory_may_be_the_store(unusable: tuple[str, str]) -> None:
    """The user has chosen that each process ticks by itself."""
    assert unusable
    app = PulseMiddleware(
        answer,
        name=uuid4().hex,
        start="eager",
        store_fallback="memory",
        tasks={"work": Task(action="/work", interval="24h")},
    )
    assert request_once(app) == (["200 OK"], True)


def test_without_a_folder_a_development_server_has_its_own_store(
    served: PulseMiddleware, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs one process, which the first request shows."""
    monkeypatch.setattr(runtime, "serves_alone", lambda: True)
    assert request_once(served)[1] is True


def test_check_accepts_memory_without_a_folder(
    unusable: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to report."""
    assert unusable
    file = tmp_path / "site.ini"
    lines = [f"{key} = {value}" for key, value in KEYS.items()]
    fallback = "pulse.config.store_fallback = memory"
    file.write_text("\n".join(["[filter:pulse]", "use = egg:pulse", fallback, *lines]))
    assert (main(["check", str(file)]), capsys.readouterr().err) == (0, "")


def test_check_creates_no_folder(state: Path, tmp_path: Path) -> None:
    """Another user may run the command, who would own the folder."""
    file = tmp_path / "site.ini"
    lines = [f"{key} = {value}" for key, value in KEYS.items()]
    file.write_text("\n".join(["[filter:pulse]", "use = egg:pulse", *lines]))
    assert main(["check", str(file)]) == 0
    assert not state.exists()


# Owners -----------------------------------------------------------------------------------------


def test_folder_of_another_user_is_named_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user has made the private folder of this user first."""
    owner = pwd.getpwuid(tmp_path.stat().st_uid).pw_name
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    problem = folder_problem(tmp_path)
    assert problem.startswith(f"{tmp_path} belongs to another user than uid 12345 (owner {owner}, ")


def test_link_is_named_with_its_owner(tmp_path: Path) -> None:
    """Another user may lead this user's store to any folder."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert "link is a symbolic link (owner " in folder_problem(tmp_path / "link")


def test_folder_that_cannot_be_created_is_named_with_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only file system denies the access, also to root."""
    monkeypatch.setattr("os.access", lambda *_: False)
    problem = folder_problem(tmp_path / "a" / "b")
    assert problem.startswith(f"{tmp_path / 'a' / 'b'} cannot be created: {tmp_path} cannot be wri")
    assert "cannot be written by" in folder_problem(tmp_path)


def test_folder_below_one_that_cannot_be_searched_is_named_with_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the home of another user."""

    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.lstat", refuse)
    monkeypatch.setattr("os.access", lambda *_: False)
    problem = folder_problem(tmp_path / "a")
    reached = f"{tmp_path / 'a'} cannot be reached: {tmp_path} cannot be searched by "
    assert problem.startswith(reached)
    assert problem.endswith(", mode 0700)")


def test_folder_that_can_be_created_is_no_problem(tmp_path: Path) -> None:
    """It is not created."""
    assert folder_problem(tmp_path / "a" / "b") == ""
    assert not (tmp_path / "a").exists()


def test_folder_whose_creation_fails_is_named_with_the_reason(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The permissions may promise more than the file system does."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    first, _ = folder_problems(create=True)
    assert first == f"{state / 'pulse'} cannot be created: Read-only file system"
    assert folder_problems(create=False) == []
