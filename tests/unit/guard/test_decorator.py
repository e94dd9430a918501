"""The decorator itself: what it keeps, what it refuses to decorate, and where it looks."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import bottle
import pytest

import pulse
from pulse.core.run import Run
from pulse.errors import BadValueError, RefusedError
from pulse.guard.decorator import only

RUN = Run(id="1", task="cleanup", fire_time=0)
INSIDE = {"wsgi.version": (1, 0), "pulse.run": RUN}
OUTSIDE = {"wsgi.version": (1, 0)}


def cleanup(request: object, *, full: bool = False) -> tuple[object, bool]:
    """Clean up."""
    return request, full


cleanup.csrf_exempt = True


class Request:
    """A request of a framework that nobody knows."""

    def __init__(self, environ: object) -> None:
        self.environ = environ


def test_the_package_offers_the_decorator() -> None:
    """`from pulse import only` is the name that users lean on."""
    assert pulse.only is only


def test_a_decorated_view_keeps_its_name_and_words() -> None:
    """Routers name endpoints by it, and documentation shows it."""
    view = only(cleanup)
    assert (view.__name__, view.__doc__, view.__wrapped__) == ("cleanup", "Clean up.", cleanup)


def test_a_decorated_view_keeps_its_attributes() -> None:
    """Frameworks mark views by attributes."""
    assert only(cleanup).csrf_exempt is True


def test_a_decorated_view_tells_its_parameters() -> None:
    """Also to those who do not look behind a decorator."""
    assert inspect.getfullargspec(only(cleanup)).args == ["request"]


def test_an_app_that_is_an_object_does_not_spill_its_attributes() -> None:
    """Its state stays its own."""
    app = partial(cleanup, full=True)
    app.state = "state"
    assert not hasattr(only(app), "state")


def test_something_built_in_may_be_decorated() -> None:
    """It has no signature to tell, and is called all the same."""
    assert only(max)(INSIDE) == "wsgi.version"


@pytest.mark.parametrize("where", [(INSIDE,), (Request(INSIDE),), (1, Request(INSIDE))])
def test_an_argument_that_holds_the_run_opens_the_view(where: tuple[object, ...]) -> None:
    """The environ is found as an argument and as an attribute of one."""
    assert only(lambda *_arguments: "done")(*where) == "done"


def test_a_keyword_that_holds_the_run_opens_the_view() -> None:
    """Some frameworks pass the request by name."""
    assert only(lambda request: request)(request=INSIDE) == INSIDE


def test_the_first_environ_decides() -> None:
    """A second one in the arguments cannot overrule the request's own."""
    with pytest.raises(RefusedError):
        only(lambda *_arguments: "done")(Request(OUTSIDE), Request(INSIDE))


@pytest.mark.parametrize(
    "arguments",
    [(), ({"pulse.run": RUN},), (Request("text"),), (Request(OUTSIDE),), ("pulse.run",)],
    ids=["none", "a dict that is no environ", "odd", "outside", "text"],
)
def test_without_an_environ_of_a_run_the_view_is_refused(arguments: tuple[object, ...]) -> None:
    """In a framework that is not known the refusal is an exception of pulse."""
    with pytest.raises(RefusedError, match="expected a request that pulse sent"):
        only(lambda *_arguments: "done")(*arguments)


def test_a_stale_request_of_bottle_opens_nothing() -> None:
    """Bottle keeps the last request of a thread; only the view it is calling may lean on it."""
    app = bottle.Bottle()
    app.route("/", callback=only(lambda: "done"))
    started: list[str] = []
    inside = INSIDE | {"PATH_INFO": "/", "REQUEST_METHOD": "GET"}
    app(inside, lambda status, *_: started.append(status))
    with pytest.raises(RefusedError):
        only(lambda: "done")()
    assert started == ["200 OK"]


def test_a_thread_without_a_request_opens_nothing() -> None:
    """Where no framework has a request at hand nobody vouches for the call."""
    view = only(lambda: "done")
    with ThreadPoolExecutor(1) as pool, pytest.raises(RefusedError):
        pool.submit(view).result()


async def asynchronous() -> None:
    """Do nothing, asynchronously."""


async def generating() -> object:
    """Yield, asynchronously."""
    yield


class Asynchronous:
    """An ASGI app."""

    async def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("view", [asynchronous, generating, Asynchronous()])
def test_an_asynchronous_view_is_refused_at_once(view: object) -> None:
    """WSGI would never await it, and it would look as if it had run."""
    with pytest.raises(BadValueError, match="expected a view that is not asynchronous"):
        only(view)


@pytest.mark.parametrize("view", [Request, "cleanup", None])
def test_what_is_no_function_is_refused_at_once(view: object) -> None:
    """A class would be called to make an object, which is no request."""
    with pytest.raises(BadValueError, match="expected a view function or a WSGI app"):
        only(view)
