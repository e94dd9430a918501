"""The decorator: preserved attributes, rejected views and the search for the environ."""

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
    """A request of an unknown framework."""

    def __init__(self, environ: object) -> None:
        self.environ = environ


def test_package_exports_the_decorator() -> None:
    """The public name is `pulse.only`."""
    assert pulse.only is only


def test_decorated_view_keeps_its_name_and_docstring() -> None:
    """Routers and documentation use them."""
    view = only(cleanup)
    assert (view.__name__, view.__doc__, view.__wrapped__) == ("cleanup", "Clean up.", cleanup)


def test_decorated_view_keeps_its_attributes() -> None:
    """Frameworks mark views with attributes."""
    assert only(cleanup).csrf_exempt is True


def test_decorated_view_has_the_signature_of_the_view() -> None:
    """`getfullargspec` ignores `__wrapped__`."""
    assert inspect.getfullargspec(only(cleanup)).args == ["request"]


def test_attributes_of_an_app_object_are_not_copied() -> None:
    """The state of the object is not shared."""
    app = partial(cleanup, full=True)
    app.state = "state"
    assert not hasattr(only(app), "state")


def test_built_in_function_can_be_decorated() -> None:
    """A built-in function may have no signature."""
    assert only(max)(INSIDE) == "wsgi.version"


@pytest.mark.parametrize("where", [(INSIDE,), (Request(INSIDE),), (1, Request(INSIDE))])
def test_environ_is_found_in_arguments(where: tuple[object, ...]) -> None:
    """The environ may be an argument or an attribute of an argument."""
    assert only(lambda *_arguments: "done")(*where) == "done"


def test_environ_is_found_in_keyword_arguments() -> None:
    """Some frameworks pass the request as a keyword argument."""
    assert only(lambda request: request)(request=INSIDE) == INSIDE


def test_first_environ_is_used() -> None:
    """A second environ in the arguments has no effect."""
    with pytest.raises(RefusedError):
        only(lambda *_arguments: "done")(Request(OUTSIDE), Request(INSIDE))


@pytest.mark.parametrize(
    "arguments",
    [(), ({"pulse.run": RUN},), (Request("text"),), (Request(OUTSIDE),), ("pulse.run",)],
    ids=["none", "a dict that is no environ", "odd", "outside", "text"],
)
def test_request_without_a_run_raises_refused_error(arguments: tuple[object, ...]) -> None:
    """In an unknown framework, the error is an exception of pulse."""
    with pytest.raises(RefusedError, match="expected a request of pulse"):
        only(lambda *_arguments: "done")(*arguments)


def test_stale_request_of_bottle_is_ignored() -> None:
    """Bottle keeps the last request of a thread; only the view of its route may use it."""
    app = bottle.Bottle()
    app.route("/", callback=only(lambda: "done"))
    started: list[str] = []
    inside = INSIDE | {"PATH_INFO": "/", "REQUEST_METHOD": "GET"}
    app(inside, lambda status, *_: started.append(status))
    with pytest.raises(RefusedError):
        only(lambda: "done")()
    assert started == ["200 OK"]


def test_thread_without_a_request_is_refused() -> None:
    """No framework has a current request in the thread."""
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
def test_asynchronous_view_is_rejected(view: object) -> None:
    """WSGI would never await the view."""
    with pytest.raises(BadValueError, match="expected a view that is not asynchronous"):
        only(view)


@pytest.mark.parametrize("view", [Request, "cleanup", None])
def test_class_or_other_object_is_rejected(view: object) -> None:
    """A class would be called to create an object."""
    with pytest.raises(BadValueError, match="expected a view function or a WSGI app"):
        only(view)
