"""pulse passes the checks of the standard library's WSGI validator."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING
from wsgiref.validate import validator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.core.run import Outcome, Trigger
from pulse.wsgi.dispatcher import Dispatcher
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pulse.core.run import Claim, Result

    Perform = Callable[..., Result]

PLAIN = [("Content-Type", "text/plain")]


@validator
def listing(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Return the body as a list, after reading the input."""
    environ["wsgi.input"].read(10)
    environ["wsgi.errors"].write("")
    start_response("200 OK", PLAIN)
    return [b"listed"]


@validator
def generating(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Return the body as a generator."""
    start_response("200 OK", PLAIN)
    yield b"gene"
    yield b"rated"


@validator
def writing(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Send the body with write()."""
    start_response("200 OK", PLAIN)(b"written")
    return []


@validator
def empty(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Return a 204 response without a content type."""
    start_response("204 No Content", [])
    return [b""]


@pytest.mark.parametrize(
    "app", [listing, generating, writing, empty], ids=["list", "generator", "write", "204"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_validator_accepts_each_kind_of_body(
    perform: Perform, app: WSGIApplication, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The validator checks the environ, the iteration and the closing of the body."""
    result = perform(app, method=method, base_url="https://example.org:8443/app")
    assert result.outcome is Outcome.SUCCEEDED, result.message
    assert capsys.readouterr().err == ""


def test_validator_accepts_a_head_request(perform: Perform) -> None:
    """A response without a body is accepted."""
    result = perform(empty, method="HEAD")
    assert result.outcome is Outcome.SUCCEEDED, result.message


def _is_action(path: str) -> bool:
    segments = path.partition("?")[0].split("/")
    return "://" not in path and path.isprintable() and {".", ".."}.isdisjoint(segments)


_task_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_lines = st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(lambda text: f"x{text}")
_names = st.text(string.ascii_letters + string.digits + "-_", min_size=1).map(lambda n: f"X-A{n}")
_paths = (
    st.text(st.characters(categories=["L", "M", "N", "P", "S"], exclude_characters="#"))
    .map(lambda text: "/" + text.lstrip("/\\"))
    .filter(_is_action)
)
_claims = st.builds(
    make_claim,
    _task_names,
    action=_paths,
    headers=st.dictionaries(_names, _lines.filter(lambda line: "${" not in line)),
    body=st.binary(),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    run_body=st.none() | st.binary(),
    fire_time=st.integers(0, 2**51),
    attempt=st.integers(1, 1_000),
    trigger=st.sampled_from(Trigger),
)


@given(claim=_claims)
def test_environ_of_any_task_is_valid(claim: Claim) -> None:
    """The environ is valid for any name, path, query, headers and body."""
    assert Dispatcher(listing, multithread=False).call(claim).status == 200


@given(claim=_claims)
def test_environ_entries_are_latin_1_text(claim: Claim) -> None:
    """PEP 3333 requires that latin-1 can encode each CGI entry."""
    entries = {}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        entries.update(environ)
        start_response("200 OK", PLAIN)
        return []

    Dispatcher(app, multithread=False).call(claim)
    for name, value in entries.items():
        if name.isupper():
            assert type(value) is str, name
            assert value.encode("latin-1") is not None
