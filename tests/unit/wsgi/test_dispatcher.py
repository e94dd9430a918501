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
    """An app that keeps the environ and body of its last request."""

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
    """Return the witness of one call."""
    witness = Witness()
    Dispatcher(witness, **{"multithread": True} | settings).call(claim or make_claim())
    return witness


def test_the_call_is_a_get_of_the_path() -> None:
    """A task that says nothing else is a GET."""
    environ = seen(make_claim(action="/sessions/cleanup?full=1")).environ
    names = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL")
    assert [environ[name] for name in names] == [
        "GET",
        "",
        "/sessions/cleanup",
        "full=1",
        "HTTP/1.1",
    ]


def test_the_environ_is_a_plain_dict_of_its_own() -> None:
    """What an app puts there is gone at the next call."""
    witness = Witness()
    dispatcher = Dispatcher(witness, multithread=True)
    dispatcher.call(make_claim())
    witness.environ["left.behind"] = True
    dispatcher.call(make_claim())
    assert type(witness.environ) is dict
    assert "left.behind" not in witness.environ


def test_the_base_url_says_where_the_app_is() -> None:
    """Host, scheme and script name are those of the base URL."""
    environ = seen(base_url="https://example.org/app").environ
    names = ("wsgi.url_scheme", "HTTP_HOST", "SERVER_PORT", "SCRIPT_NAME")
    assert [environ[name] for name in names] == ["https", "example.org", "443", "/app"]


def test_a_bad_base_url_is_refused_at_once() -> None:
    """The mistake is told where it is made."""
    with pytest.raises(BadValueError, match="expected a URL"):
        Dispatcher(Witness(), base_url="localhost", multithread=True)


def test_the_call_comes_from_this_host() -> None:
    """There is no outside peer."""
    assert seen().environ["REMOTE_ADDR"] == "127.0.0.1"


def test_headers_tell_of_the_run() -> None:
    """Task, fire time, run, attempt and trigger are told as text."""
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


def test_the_fire_time_has_microseconds_where_there_are_any() -> None:
    """RFC 3339 allows a fraction of a second; a whole second has none."""
    environ = seen(make_claim(fire_time=FIRE_TIME + 250_000)).environ
    assert environ["HTTP_X_PULSE_FIRE_TIME"] == "2026-11-23T07:00:00.250000Z"


def test_each_second_has_its_own_text() -> None:
    """The text that is kept for a second is not used for the next one."""
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


def test_the_user_agent_names_the_version() -> None:
    """Access logs show who asked."""
    assert seen().environ["HTTP_USER_AGENT"] == f"pulse/{metadata.version('pulse')}"


def test_an_uninstalled_pulse_has_no_known_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from a bare checkout, the version is unknown and nothing breaks."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert seen().environ["HTTP_USER_AGENT"] == "pulse/unknown"


def test_a_task_may_set_its_own_user_agent() -> None:
    """A task's own headers go over the usual ones."""
    environ = seen(make_claim(headers={"User-Agent": "cron", "X-Key": "a"})).environ
    assert (environ["HTTP_USER_AGENT"], environ["HTTP_X_KEY"]) == ("cron", "a")


def test_a_name_that_no_header_can_hold_is_percent_encoded() -> None:
    """Task names may be unicode; headers are ASCII."""
    environ = seen(make_claim("räumen 100%")).environ
    assert environ["HTTP_X_PULSE_TASK"] == "r%C3%A4umen%20100%25"


def test_the_run_itself_is_in_the_environ() -> None:
    """This object is the proof that pulse asks."""
    claim = make_claim()
    assert seen(claim).environ["pulse.run"] is claim.run


def test_further_entries_are_passed_on() -> None:
    """The owner adds what each call shall find."""
    assert seen(environ={"pulse.scheduler": "handle"}).environ["pulse.scheduler"] == "handle"


@pytest.mark.parametrize("multithread", [True, False])
def test_the_app_is_told_whether_it_is_called_side_by_side(*, multithread: bool) -> None:
    """`wsgi.multithread` is what the owner says, `wsgi.multiprocess` too."""
    environ = seen(multithread=multithread, multiprocess=not multithread).environ
    assert environ["wsgi.multithread"] is multithread
    assert environ["wsgi.multiprocess"] is not multithread


def test_a_body_has_length_and_type() -> None:
    """A body without a type of its own is a row of bytes."""
    witness = seen(make_claim(method="post", body="abc"))
    names = ("REQUEST_METHOD", "CONTENT_LENGTH", "CONTENT_TYPE")
    assert [witness.environ[name] for name in names] == ["POST", "3", "application/octet-stream"]
    assert witness.body == b"abc"


def test_a_task_says_the_type_of_its_body() -> None:
    """The task's Content-Type stands."""
    claim = make_claim(method="POST", body="{}", headers={"content-type": "application/json"})
    assert seen(claim).environ["CONTENT_TYPE"] == "application/json"


def test_a_manual_run_brings_its_own_body() -> None:
    """It goes in place of the task's body, also when it is empty."""
    assert seen(make_claim(body="task's", run_body=b"run's")).body == b"run's"
    assert seen(make_claim(body="task's", run_body=b"")).body == b""


def test_a_get_without_body_has_no_length() -> None:
    """There is an empty input, never None."""
    witness = seen()
    assert "CONTENT_LENGTH" not in witness.environ
    assert "CONTENT_TYPE" not in witness.environ
    assert isinstance(witness.environ["wsgi.input"], io.BytesIO)


def test_a_post_without_body_has_length_zero() -> None:
    """Some apps answer 411 to a POST without a length."""
    assert seen(make_claim(method="POST")).environ["CONTENT_LENGTH"] == "0"


def test_errors_go_to_stderr_as_it_is_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that was put there later is used."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert seen().environ["wsgi.errors"] is stream


def test_a_process_without_stderr_has_errors_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEP 3333 wants a stream there."""
    monkeypatch.setattr(sys, "stderr", None)
    assert seen().environ["wsgi.errors"].write("lost") == 4


def test_check_names_task_header_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing secret is found at start."""
    monkeypatch.delenv("CRON_KEY", raising=False)
    definition = make_claim(headers={"X-Key": "Bearer ${CRON_KEY}"}).definition
    with pytest.raises(ConfigError) as caught:
        Dispatcher(Witness(), multithread=True).check(definition)
    assert caught.value.problems == (
        "cleanup.headers: X-Key needs the environment variable CRON_KEY, which is not set",
    )


def test_check_lets_a_good_task_pass() -> None:
    """A task without headers has nothing to find out."""
    assert Dispatcher(Witness(), multithread=True).check(make_claim().definition) is None


def test_secrets_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the variable held at the check is what is sent."""
    monkeypatch.setenv("CRON_KEY", "first")
    witness = Witness()
    dispatcher = Dispatcher(witness, multithread=True)
    claim = make_claim(headers={"X-Key": "${CRON_KEY}"})
    dispatcher.check(claim.definition)
    monkeypatch.setenv("CRON_KEY", "second")
    dispatcher.call(claim)
    assert witness.environ["HTTP_X_KEY"] == "first"
