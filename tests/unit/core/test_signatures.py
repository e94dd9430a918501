"""Signatures of functions, also of those whose annotations cannot be evaluated."""

from __future__ import annotations

import sys
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from pulse.core.signatures import runs_later, signature_of, takes
from pulse.engine.child_application import load_named
from pulse.errors import ConfigError
from pulse.events import EventBus, RunEnded
from pulse.guard.decorator import only

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
def view(request: Missing, *, full: Missing = False) -> Missing:
    return request

def listen(event: Missing) -> None:
    pass

def application(environ: Missing, start_response: Missing) -> Missing:
    return []
"""
"""`Missing` is not defined, like a name that a module imports under `TYPE_CHECKING`."""


def lazily() -> str:
    """Return SOURCE as this Python accepts it: before 3.14 (PEP 649) with a future import."""
    return (
        SOURCE if sys.version_info >= (3, 14) else f"from __future__ import annotations\n{SOURCE}"
    )


@pytest.fixture
def functions() -> dict[str, Any]:
    """Return the functions of SOURCE by their names."""
    found: dict[str, Any] = {}
    exec(compile(lazily(), "<source>", "exec", dont_inherit=True), found)  # noqa: S102 - a constant
    return found


def test_signature_has_the_parameters_of_a_function_with_unknown_annotations(
    functions: dict[str, Any],
) -> None:
    """The annotations are not evaluated."""
    assert list(signature_of(functions["view"]).parameters) == ["request", "full"]


def test_view_with_unknown_annotations_can_be_decorated(
    functions: dict[str, Any],
) -> None:
    """Its module is imported."""
    assert list(signature_of(only(functions["view"])).parameters) == ["request", "full"]


def test_listener_with_unknown_annotations_is_subscribed(
    functions: dict[str, Any],
) -> None:
    """The event's type is often imported for type checkers only."""
    bus = EventBus()
    bus.subscribe(RunEnded, functions["listen"])
    assert bus.has_listeners(RunEnded)


def test_error_about_a_listener_shows_unknown_annotations(
    functions: dict[str, Any],
) -> None:
    """The error about two arguments is not hidden by one about names."""
    with pytest.raises(ConfigError, match=r"with the parameters .*environ: .*Missing"):
        EventBus().subscribe(RunEnded, functions["application"])


def test_application_with_unknown_annotations_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pulse.config.application` names it."""
    (tmp_path / "lazily_annotated_site.py").write_text(lazily())
    monkeypatch.syspath_prepend(tmp_path)
    assert load_named("lazily_annotated_site:application")({}, Mock()) == []


def test_a_call_is_possible_where_the_arguments_fit() -> None:
    """A function without a signature takes everything."""
    assert takes(lambda _: None, 1)
    assert takes(max, 1, 2, 3, 4)
    assert not takes(lambda _: None, 1, 2)
    assert not takes(lambda: None, 1)


def test_outermost_function_is_the_one_that_is_called() -> None:
    """A decorator may add arguments to the call of the function that it wraps."""

    @wraps(lambda _, __: None)
    def outer(_: object) -> None:
        """Take one argument."""

    assert takes(outer, 1, follow_wrapped=False)
    assert not takes(outer, 1)


async def later() -> None:
    """Run later."""


def test_body_of_an_asynchronous_function_runs_later() -> None:
    """A partial of one is recognized as well."""
    assert runs_later(later)
    assert runs_later(partial(later))
    assert not runs_later(print)
