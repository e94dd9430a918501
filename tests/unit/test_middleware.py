"""What the middleware does to requests, and how it is built."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pulse
from pulse import PulseMiddleware, Task
from pulse.child.discovery import discovery
from pulse.config.loader import load
from pulse.core.run import Run
from pulse.errors import ConfigError, NotServingError
from pulse.guard.guard import PULSE_HEADERS
from pulse.handle.handle import SchedulerHandle
from pulse.middleware import pulse_filter_app_factory


def echo(environ: dict, start_response: Callable) -> list[dict]:
    """Answer the environ itself."""
    start_response("200 OK", [])
    return [environ]


def built(**keywords: object) -> PulseMiddleware:
    """Return a middleware around the echo that never starts."""
    tasks = {"cleanup": Task(action="cleanup", interval=300)}
    words = {"context": "sessions", "start": "off", "store": "memory:", "tasks": tasks}
    return PulseMiddleware(echo, **(words | keywords))


def ask(app: PulseMiddleware, path: str = "/articles", **environ: object) -> tuple[str, dict]:
    """Return the status, and the environ that reached the app if it did."""
    statuses = []
    sent = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, **environ}
    (answer,) = app(sent, lambda status, _: statuses.append(status))
    return statuses[0], answer if isinstance(answer, dict) else {}


def a_run() -> Run:
    """Return a run."""
    return Run(id="0" * 32, task="cleanup", fire_time=0)


@pytest.mark.parametrize("name", PULSE_HEADERS)
def test_a_header_of_pulse_is_dropped_from_a_request_from_outside(name: str) -> None:
    """A request from outside cannot pass as pulse's: each header is removed, with any guard."""
    _, seen = ask(built(), **{name: "forged"})
    assert name not in seen


def test_all_headers_of_pulse_are_dropped_at_once() -> None:
    """Several forged headers are removed together."""
    _, seen = ask(built(), **dict.fromkeys(PULSE_HEADERS, "forged"))
    assert not set(PULSE_HEADERS) & set(seen)


def test_the_headers_of_a_run_pass_a_second_middleware() -> None:
    """A run of an outer middleware keeps its headers in an inner one."""
    words = {"pulse.run": a_run(), "HTTP_X_PULSE_TASK": "cleanup"}
    _, seen = ask(built(), **words)
    assert seen["HTTP_X_PULSE_TASK"] == "cleanup"


def test_a_run_keeps_the_handle_of_its_own_middleware() -> None:
    """Its view uses the scheduler that sent it, also through another middleware."""
    handle = SchedulerHandle()
    sent = {"pulse.run": a_run(), "pulse.scheduler": handle, "HTTP_X_PULSE_TASK": "cleanup"}
    status, seen = ask(built(guard=True), "/sessions/cleanup", **sent)
    assert (status, seen["pulse.scheduler"]) == ("200 OK", handle)


def test_the_app_finds_the_handle_in_every_request() -> None:
    """`environ["pulse.scheduler"]` is set in ordinary requests too."""
    app = built()
    _, seen = ask(app)
    assert isinstance(seen["pulse.scheduler"], SchedulerHandle)
    assert seen["pulse.scheduler"] is app.scheduler


def test_without_a_guard_a_scheduled_path_is_open() -> None:
    """The guard is off by default."""
    assert ask(built(), "/sessions/cleanup")[0] == "200 OK"


@pytest.mark.parametrize(
    "path", ["/sessions/cleanup", "//sessions//cleanup/", "/sessions/cleanup/x"]
)
def test_a_request_from_outside_to_a_guarded_path_is_refused(path: str) -> None:
    """With the guard on, a request from outside to a scheduled path gets 403 from pulse."""
    assert ask(built(guard=True), path) == ("403 Forbidden", {})


def test_a_guarded_path_is_open_to_a_run() -> None:
    """A run of an outer middleware may request what an inner one guards."""
    words = {"pulse.run": a_run()}
    assert ask(built(guard=True), "/sessions/cleanup", **words)[0] == "200 OK"


@pytest.mark.parametrize("attempt", [1, 2])
def test_other_paths_pass_the_guard(attempt: int) -> None:
    """An ordinary path passes, the first time and from the cache."""
    app = built(guard=True)
    answers = [ask(app)[0] for _ in range(attempt)]
    assert answers == ["200 OK"] * attempt


def test_an_environ_without_path_passes_the_guard() -> None:
    """PEP 3333 lets SCRIPT_NAME and PATH_INFO be absent; such a request asks for the root."""
    app = built(guard=True)
    statuses = []
    app({"REQUEST_METHOD": "GET"}, lambda status, _: statuses.append(status))
    assert statuses == ["200 OK"]


def test_settings_of_an_ini_file_make_the_same_middleware_as_keywords() -> None:
    """The mapping in `config=` and the keywords have the same effect."""
    config = {
        "pulse.config.context": "sessions",
        "pulse.config.guard": "true",
        "pulse.config.start": "off",
        "pulse.task.cleanup.action": "cleanup",
        "pulse.task.cleanup.interval": "300",
    }
    assert ask(PulseMiddleware(echo, config=config), "/sessions/cleanup")[0] == "403 Forbidden"


def test_loaded_settings_are_used_unchanged() -> None:
    """`Settings` may be passed instead of the mapping."""
    settings = load(
        {}, {"start": "off", "guard": True, "task": {"a": Task(action="a", interval=1)}}
    )
    assert ask(PulseMiddleware(echo, settings), "/a")[0] == "403 Forbidden"


def test_the_paste_factory_builds_from_a_section(tmp_path: Path) -> None:
    """`egg:pulse` gets the file's globals and the section's own keys."""
    app = pulse_filter_app_factory(
        echo,
        {"__file__": str(tmp_path / "site.ini"), "here": str(tmp_path)},
        **{
            "pulse.config.start": "off",
            "pulse.config.guard": "yes",
            "pulse.task.a.action": "/x",
            "pulse.task.a.interval": "5m",
        },
    )
    assert ask(app, "/x")[0] == "403 Forbidden"


def test_one_error_lists_all_problems() -> None:
    """The error for three mistakes names all three."""
    tasks = {"a": {"action": "a", "interval": "soon"}}
    with pytest.raises(ConfigError) as caught:
        PulseMiddleware(echo, mode="gevnt", lease="0.1s", tasks=tasks)
    assert len(caught.value.problems) == 3


def test_processing_without_the_application_setting_is_an_error() -> None:
    """Child processes must find the application; the error names the setting."""
    with pytest.raises(ConfigError, match="application"):
        built(mode="processing")


def test_a_header_from_an_unset_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the task and the variable."""
    monkeypatch.delenv("NO_SUCH_SECRET", raising=False)
    task = Task(action="a", interval=1, headers={"X-Key": "${NO_SUCH_SECRET}"})
    with pytest.raises(ConfigError, match=r"cleanup.*NO_SUCH_SECRET"):
        built(tasks={"cleanup": task})


def test_in_a_child_the_middleware_registers_and_never_starts() -> None:
    """A child of `mode = processing` finds the middleware, which starts nothing there."""
    with discovery() as found:
        app = built(start="eager")
    assert [announced.app for announced in found.in_use()] == [echo]
    with pytest.raises(pulse.errors.PulseError):
        app.scheduler.tasks()


def test_the_public_names_are_those_that_are_listed() -> None:
    """`from pulse import ...` offers each name of `__all__`, and no other."""
    assert [getattr(pulse, name).__name__ for name in pulse.__all__] == pulse.__all__
    assert dir(pulse) == sorted(pulse.__all__)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    """A misspelt import fails as in any module."""
    with pytest.raises(AttributeError, match="Taks"):
        _ = pulse.Taks


def test_an_object_that_is_no_application_is_among_the_problems() -> None:
    """An example is a forgotten application, or settings in its place."""
    with pytest.raises(ConfigError) as caught:
        PulseMiddleware({"pulse.config.mode": "gevent"}, lease=0.5)
    assert caught.value.problems == (
        "app: expected a WSGI application, got a value of type dict, not shown here",
        "lease: expected a duration of at least 1s, got 0.5",
    )


def test_keywords_with_loaded_settings_are_an_error() -> None:
    """The keywords would be ignored."""
    with pytest.raises(ConfigError, match="mode: expected no keyword beside loaded Settings"):
        PulseMiddleware(echo, load(None, {}), mode="gevent")


def test_the_application_is_checked_with_loaded_settings_too() -> None:
    """An object that cannot be called is an error."""
    with pytest.raises(ConfigError, match="app: expected a WSGI application, got None"):
        PulseMiddleware(None, load(None, {}))


SWITCHED_OFF = [
    ({"start": "off"}, {}),
    ({"config": {"pulse.config.start": "off"}}, {}),
    ({"start": "auto"}, {"PULSE_START": "off"}),
    ({"start": "eager"}, {"PULSE_START": "off"}),
]
"""The keywords and the environment under which no scheduler begins."""


def served_once(
    keywords: dict[str, object], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> PulseMiddleware:
    """Return a middleware that has answered one request in a process that pytest does not run."""
    for name, word in environment.items():
        monkeypatch.setenv(name, word)
    monkeypatch.delitem(sys.modules, "pytest")
    tasks = {"cleanup": Task(action="cleanup", interval=300)}
    app = PulseMiddleware(echo, **{"store": "memory:", "tasks": tasks, **keywords})
    assert ask(app)[0] == "200 OK"
    return app


@pytest.mark.parametrize(("keywords", "environment"), SWITCHED_OFF, ids=str)
def test_a_scheduler_that_is_switched_off_does_not_start(
    keywords: dict[str, object], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is answered, and the handle says that nothing runs here."""
    app = served_once(keywords, environment, monkeypatch)
    with pytest.raises(NotServingError):
        app.scheduler.tasks()


@pytest.mark.parametrize(("keywords", "environment"), SWITCHED_OFF, ids=str)
def test_a_scheduler_that_is_switched_off_says_so_in_the_log(
    keywords: dict[str, object],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The reason why no task runs is logged at level INFO."""
    with caplog.at_level(logging.INFO, logger="pulse"):
        served_once(keywords, environment, monkeypatch)
    assert [record for record in caplog.records if "off" in record.getMessage().lower()] != []
