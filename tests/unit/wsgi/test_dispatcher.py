"""The environ of a call, entry by entry."""

from __future__ import annotations

import io
import sys
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from pulse.core.run import Claim, Trigger
from pulse.errors import BadValueError, ConfigError
from pulse.wsgi.dispatcher import Dispatcher
from tests.support.claims import FIRE_TIME, make_claim

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class Witness:
    """An app that keeps the environ and the body of its last request."""

    def __init__(self) -> None:
        self.environ: WSGIEnvironment = {}
        self.body = b""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Read the body and answer."""
        self.environ = environ
        self.body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"seen"]


def seen(claim: Claim | None = None, /, **settings: object) -> Witness:
    """Return the app after one call."""
    witness = Witness()
    Dispatcher(witness, **{"multithread": True} | settings).call(claim or make_claim())
    return witness


def test_default_request_is_a_get_of_the_path() -> None:
    """The task sets no method."""
    environ = seen(make_claim(action="/sessions/cleanup?full=1")).environ
    names = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL")
    assert [environ[name] for name in names] == [
        "GET",
        "",
        "/sessions/cleanup",
        "full=1",
        "HTTP/1.1",
    ]


def test_each_call_has_a_plain_dict_of_its_own() -> None:
    """Entries that an app adds are absent from the next call."""
    witness = Witness()
    dispatcher = Dispatcher(witness, multithread=True)
    dispatcher.call(make_claim())
    witness.environ["left.behind"] = True
    dispatcher.call(make_claim())
    assert type(witness.environ) is dict
    assert "left.behind" not in witness.environ


def test_base_url_sets_scheme_host_and_script_name() -> None:
    """The environ has the parts of the base URL."""
    environ = seen(base_url="https://example.org/app").environ
    names = ("wsgi.url_scheme", "HTTP_HOST", "SERVER_PORT", "SCRIPT_NAME")
    assert [environ[name] for name in names] == ["https", "example.org", "443", "/app"]


def test_invalid_base_url_is_refused_by_the_constructor() -> None:
    """The error is raised before the first call."""
    with pytest.raises(BadValueError, match="expected a URL"):
        Dispatcher(Witness(), base_url="localhost", multithread=True)


def test_remote_address_is_this_host() -> None:
    """No external client sends the request."""
    assert seen().environ["REMOTE_ADDR"] == "127.0.0.1"


def test_headers_describe_the_run() -> None:
    """Task, fire time, run, attempt and trigger are text."""
    claim = make_claim(trigger=Trigger.CATCH_UP, attempt=3)
    environ = seen(claim).environ
    assert {name: environ[name] for name in environ if "PULSE" in name or "IDEMP" in name} == {
        "HTTP_X_PULSE_TASK": "cleanup",
        "HTTP_X_PULSE_FIRE_TIME": "2026-11-23T07:00:00Z",
        "HTTP_X_PULSE_RUN_ID": claim.run.id,
        "HTTP_X_PULSE_ATTEMPT": "3",
        "HTTP_X_PULSE_TRIGGER": "catch_up",
        "HTTP_IDEMPOTENCY_KEY": claim.run.id,
    }


def test_fire_time_has_microseconds_unless_they_are_zero() -> None:
    """RFC 3339 makes the fraction of a second optional."""
    environ = seen(make_claim(fire_time=FIRE_TIME + 250_000)).environ
    assert environ["HTTP_X_PULSE_FIRE_TIME"] == "2026-11-23T07:00:00.250000Z"


def test_cached_text_of_a_second_is_not_used_for_another_second() -> None:
    """The cache has one second."""
    witness = Witness()
    dispatcher = Dispatcher(witness, multithread=True)
    texts = []
    for late in (0, 1_500_000, 0):
        dispatcher.call(make_claim(fire_time=FIRE_TIME + late))
        texts.append(witness.environ["HTTP_X_PULSE_FIRE_TIME"])
    assert texts == [
        "2026-11-23T07:00:00Z",
        "2026-11-23T07:00:01.500000Z",
        "2026-11-23T07:00:00Z",
    ]


def test_user_agent_has_the_version() -> None:
    """Access logs show the client."""
    assert seen().environ["HTTP_USER_AGENT"] == f"pulse/{metadata.version('pulse')}"


def test_version_of_an_uninstalled_package_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout without an installation works."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert seen().environ["HTTP_USER_AGENT"] == "pulse/unknown"


def test_user_agent_of_a_task_replaces_the_default() -> None:
    """The headers of a task have precedence."""
    environ = seen(make_claim(headers={"User-Agent": "cron", "X-Key": "a"})).environ
    assert (environ["HTTP_USER_AGENT"], environ["HTTP_X_KEY"]) == ("cron", "a")


def test_name_of_a_task_is_percent_encoded() -> None:
    """Names may contain Unicode; headers are ASCII."""
    environ = seen(make_claim("räumen 100%")).environ
    assert environ["HTTP_X_PULSE_TASK"] == "r%C3%A4umen%20100%25"


def test_run_is_in_the_environ() -> None:
    """This object proves that pulse sends the request."""
    claim = make_claim()
    assert seen(claim).environ["pulse.run"] is claim.run


def test_further_entries_are_in_the_environ() -> None:
    """The caller of the constructor adds them."""
    assert seen(environ={"pulse.scheduler": "handle"}).environ["pulse.scheduler"] == "handle"


@pytest.mark.parametrize("multithread", [True, False])
def test_environ_says_whether_calls_are_concurrent(*, multithread: bool) -> None:
    """`wsgi.multithread` and `wsgi.multiprocess` have the values of the constructor."""
    environ = seen(multithread=multithread, multiprocess=not multithread).environ
    assert environ["wsgi.multithread"] is multithread
    assert environ["wsgi.multiprocess"] is not multithread


def test_body_has_length_and_default_type() -> None:
    """The type of a body without a type is `application/octet-stream`."""
    witness = seen(make_claim(method="post", body="abc"))
    names = ("REQUEST_METHOD", "CONTENT_LENGTH", "CONTENT_TYPE")
    assert [witness.environ[name] for name in names] == ["POST", "3", "application/octet-stream"]
    assert witness.body == b"abc"


def test_content_type_of_a_task_is_kept() -> None:
    """The header of the task has precedence."""
    claim = make_claim(method="POST", body="{}", headers={"content-type": "application/json"})
    assert seen(claim).environ["CONTENT_TYPE"] == "application/json"


def test_body_of_a_manual_run_replaces_that_of_the_task() -> None:
    """An empty body replaces it, too."""
    assert seen(make_claim(body="task's", run_body=b"run's")).body == b"run's"
    assert seen(make_claim(body="task's", run_body=b"")).body == b""


def test_get_without_a_body_has_no_length() -> None:
    """The input is empty, not None."""
    witness = seen()
    assert "CONTENT_LENGTH" not in witness.environ
    assert "CONTENT_TYPE" not in witness.environ
    assert isinstance(witness.environ["wsgi.input"], io.BytesIO)


def test_post_without_a_body_has_length_zero() -> None:
    """Some apps answer a POST without a length with 411."""
    assert seen(make_claim(method="POST")).environ["CONTENT_LENGTH"] == "0"


def test_errors_stream_is_stderr_at_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced stream is used."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert seen().environ["wsgi.errors"] is stream


def test_process_without_stderr_has_an_errors_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEP 3333 requires a stream."""
    monkeypatch.setattr(sys, "stderr", None)
    assert seen().environ["wsgi.errors"].write("lost") == 4


def test_check_names_task_header_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing secret is reported at start."""
    monkeypatch.delenv("CRON_KEY", raising=False)
    definition = make_claim(headers={"X-Key": "Bearer ${CRON_KEY}"}).definition
    with pytest.raises(ConfigError) as caught:
        Dispatcher(Witness(), multithread=True).check(definition)
    assert caught.value.problems == (
        "cleanup.headers: X-Key needs the environment variable CRON_KEY, which is not set",
    )


def test_check_accepts_a_task_without_headers() -> None:
    """No variable can be missing."""
    assert Dispatcher(Witness(), multithread=True).check(make_claim().definition) is None


def test_secrets_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app receives the value that the variable had at the check."""
    monkeypatch.setenv("CRON_KEY", "first")
    witness = Witness()
    dispatcher = Dispatcher(witness, multithread=True)
    claim = make_claim(headers={"X-Key": "${CRON_KEY}"})
    dispatcher.check(claim.definition)
    monkeypatch.setenv("CRON_KEY", "second")
    dispatcher.call(claim)
    assert witness.environ["HTTP_X_KEY"] == "first"
