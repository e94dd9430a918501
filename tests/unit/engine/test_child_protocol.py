"""What a child process and its parent say to each other."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.core.run import Claim, Outcome, Result, Run, Trigger
from pulse.core.task import Task, build_definition
from pulse.engine.child_protocol import (
    ChildSetup,
    ConnectionClosedError,
    Hello,
    MiddlewareFingerprint,
    Ready,
    RunRequest,
    encodable,
    receive,
    requested_claim,
    run_request,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTANTS = st.integers(-(2**60), 2**60)
MAYBE = st.none() | INSTANTS

RUNS = st.builds(
    Run,
    id=st.text(),
    task=st.text(),
    fire_time=INSTANTS,
    scheduled_for=MAYBE,
    partition=st.text(),
    trigger=st.sampled_from(Trigger),
    attempt=st.integers(0, 1000),
    holder=st.text(),
    claimed_at=MAYBE,
    started_at=MAYBE,
    took_us=MAYBE,
    outcome=st.none() | st.sampled_from(Outcome),
    status=st.none() | st.integers(100, 599),
    message=st.text(),
    count=st.integers(1, 10**12),
    retry_at=MAYBE,
    body=st.none() | st.binary(),
)
RESULTS = st.builds(
    Result,
    outcome=st.sampled_from(Outcome),
    started_at=INSTANTS,
    took_us=INSTANTS,
    status=st.none() | st.integers(100, 599),
    message=st.text(),
    retry_after_us=st.none() | INSTANTS,
)
DEFINITIONS = st.builds(
    lambda name, path, body, headers: msgspec.structs.replace(
        build_definition(name, Task(action="/here", interval=60)),
        path=path,
        body=body,
        headers=headers,
    ),
    st.text(min_size=1),
    st.text(st.characters(max_codepoint=255)),
    st.binary(),
    st.lists(st.tuples(st.text(), st.text())).map(tuple),
)
CLAIMS = st.tuples(RUNS, DEFINITIONS, INSTANTS).map(lambda parts: Claim(*parts))

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return the two ends of a line."""
    here, there = socket.socketpair()
    yield here, there
    here.close()
    there.close()


def _pass_on(message: msgspec.Struct) -> msgspec.Struct:
    here, there = socket.socketpair()
    with here, there:
        teller = threading.Thread(target=send, args=(here, message))
        teller.start()
        heard = receive(there, type(message))
        teller.join()
    return heard


@given(RESULTS)
def test_any_result_comes_through_unchanged(result: Result) -> None:
    """A result that is sent is the result that is received."""
    assert _pass_on(result) == result


@given(CLAIMS)
def test_any_run_comes_through_with_its_call(claim: Claim) -> None:
    """A child has the same run, the same call and the same lease as its parent; no schedule."""
    heard = _pass_on(run_request(claim, overdue_at=7))
    assert isinstance(heard, RunRequest)
    unplanned = msgspec.structs.replace(claim.definition, schedule=None)
    assert requested_claim(heard) == msgspec.structs.replace(claim, definition=unplanned)
    assert heard.overdue_at == 7


@given(st.dictionaries(st.text(), st.text()), st.lists(st.text()), st.none() | st.text())
def test_any_opening_comes_through_unchanged(
    global_conf: dict[str, str], search_path: list[str], pythonpath: str | None
) -> None:
    """A child is told what its parent knows."""
    setup = ChildSetup(
        paste_uri="config:/app.ini",
        global_conf=global_conf,
        fingerprint=MiddlewareFingerprint(digest="d"),
    )
    opening = Hello(setup=setup, parent=1, search_path=search_path, pythonpath=pythonpath)
    assert _pass_on(opening) == opening


def test_a_message_larger_than_the_lines_buffer_comes_through() -> None:
    """A megabyte of traceback is one message."""
    readiness = Ready("x" * 2**20)
    assert _pass_on(readiness) == readiness


def test_messages_that_follow_each_other_are_told_apart(ends: Ends) -> None:
    """Two messages sent at once are received one by one."""
    here, there = ends
    send(here, Ready("one"))
    send(here, Ready("two"))
    assert [receive(there, Ready).problem for _ in range(2)] == ["one", "two"]


def test_a_closed_line_is_told(ends: Ends) -> None:
    """Who listens when the other side has closed is told so."""
    here, there = ends
    here.close()
    with pytest.raises(ConnectionClosedError):
        receive(there, Ready)


def test_a_line_closed_in_the_middle_of_a_message_is_told(ends: Ends) -> None:
    """Half a message is none."""
    here, there = ends
    here.sendall(b"\0\0\0\x09{")
    here.close()
    with pytest.raises(ConnectionClosedError):
        receive(there, Ready)


def test_sending_on_a_closed_line_is_told(ends: Ends) -> None:
    """Who speaks when the other side has closed is told so."""
    here, there = ends
    there.close()
    with pytest.raises(ConnectionClosedError):
        send(here, Ready())


def test_a_line_that_was_closed_unread_is_told(ends: Ends) -> None:
    """A side that closes without reading what it was told is gone, too."""
    here, there = ends
    send(here, Ready())
    there.close()
    with pytest.raises(ConnectionClosedError):
        receive(here, Ready)


def test_a_silent_line_with_a_timeout_times_out(ends: Ends) -> None:
    """Nothing said is no message."""
    _, there = ends
    there.settimeout(0.01)
    with pytest.raises(TimeoutError):
        receive(there, Ready)


@pytest.mark.parametrize(
    ("text", "said"),
    [("plain ä", "plain ä"), ("half \udcff", "half \\udcff")],
    ids=["utf-8", "lone surrogate"],
)
def test_what_utf8_cannot_carry_is_spelt_out(text: str, said: str) -> None:
    """A traceback with a lone surrogate in it does not break the line."""
    assert encodable(text) == said
