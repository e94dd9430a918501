"""The guard: refused paths, allowed paths and the cache."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulse.core.run import Run
from pulse.errors import BadValueError, ConfigError
from pulse.guard.guard import (
    MAX_ALLOWED_CACHED,
    MAX_CACHED_LENGTH,
    PULSE_HEADERS,
    Guard,
    forbid,
    is_run,
)
from pulse.wsgi.dispatcher import Dispatcher
from tests.support import routers
from tests.support.claims import make_claim
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VIEW = "/sessions/cleanup"

EQUIVALENT_PATHS = [
    "/sessions/cleanup",
    "//sessions/cleanup",
    "///sessions///cleanup///",
    "sessions/cleanup",
    "/sessions/cleanup/",
    "/sessions/cleanup/below",
    "/sessions/cleanup\n",
    "/sessions/cleanup\xff",
    "/\xe2sessions/clean\xffup",
    "/sessions/./cleanup",
    "/x/../sessions/cleanup",
    "/sessions/cleanup/../x",
    "/../sessions/cleanup",
    "/sessions;a=b/cleanup;c",
    "/SESSIONS/Cleanup",
    "/\xc5\xbfe\xc5\xbfsions/cleanup",
    "/sess\xc4\xb0ons/cleanup",
    "/sess\xc4\xb1ons/cleanup",
    "/sessions/cleanup.json",
    "/sessions/cleanup.",
    "/sessions/cleanup\0",
    "/sessions/cleanup ",
    "/sessions/cleanup\xc2\xa0",
    "/sessions\\cleanup",
    "/sessions\xef\xbc\x8fcleanup",
    "/sessions/cleanup?x",
    "/sessions/cleanup#x",
    "/sessions%2Fcleanup",
    "/sessions%252Fcleanup",
    "/%73essions/cleanup",
    "/sessions/;a/../cleanup",
    "/sessions/ /../cleanup",
    "/sessions/a\\b/../cleanup",
    "/sessions/a%2Fb/../cleanup",
    "/sessions/a\xe2\x84\x80b/../cleanup",
    "/sessions;a\\b/cleanup",
    "/x?/../sessions/cleanup",
    "/sessions/x/..;/cleanup",
    "/sessions/.\0./sessions/cleanup",
    "/" + "%" + "25" * 40 + "2F",
]

OTHER_PATHS = [
    "",
    "/",
    "/sessions",
    "/sessions/",
    "/session",
    "/session/cleanup",
    "/sessions/cleanup-all",
    "/sessions/cleanup_all",
    "/sessions/cleanups",
    "/sessions/cleanupall",
    "/sessions/cleaning",
    "/sessions/clean/up",
    "/sessionscleanup",
    "/cleanup",
    "/cleanup/sessions",
    "/api/sessions/cleanup",
    "/sessions/x/cleanup",
    "/sessions/x;y/cleanup",
    "/sessions/cleanup-all.json",
    "/sessions/cleanup.v2/x",
    "/static/../sessions/cleanup-all",
    "/search/100%",
    "/caf\xc3\xa9/\xe6\x97\xa5\xe6\x9c\xac",
    "/a+b/c,d/e@f/~g/(h)",
]


@pytest.fixture
def guard() -> Guard:
    """Return a guard for one path."""
    return Guard([("cleanup", VIEW)])


def environ_of(path: str, script: str = "") -> dict[str, object]:
    """Return the part of an environ that the guard reads."""
    return {"SCRIPT_NAME": script, "PATH_INFO": path}


@pytest.mark.parametrize("path", EQUIVALENT_PATHS)
def test_each_form_of_a_guarded_path_is_refused(guard: Guard, path: str) -> None:
    """The guard refuses every path that a router may map to the view."""
    assert guard.refuses(environ_of(path))


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_other_paths_are_allowed(guard: Guard, path: str) -> None:
    """Siblings, parents and equal names elsewhere are allowed."""
    assert not guard.refuses(environ_of(path))


@pytest.mark.parametrize(
    ("script", "path"),
    [
        ("/sessions", "/cleanup"),
        ("/sessions", "cleanup"),
        ("/sessions/", "/cleanup"),
        ("/sess", "ions/cleanup"),
        ("/sessions/cleanup", ""),
        ("/SESSIONS;x", "/./cleanup.json"),
        ("/mounted", "/sessions/cleanup"),
        ("/x/..", "/sessions/cleanup"),
        ("/sessions/x", "/../cleanup"),
    ],
)
def test_script_name_does_not_hide_a_guarded_path(guard: Guard, script: str, path: str) -> None:
    """The guard checks the path with and without the script name."""
    assert guard.refuses(environ_of(path, script))


@pytest.mark.parametrize(
    "environ",
    [{}, {"SCRIPT_NAME": "/mounted"}, {"PATH_INFO": "/"}, environ_of("/cleanup", "/mounted")],
    ids=["neither", "no path", "no script name", "both"],
)
def test_environ_without_script_name_or_path_is_accepted(
    guard: Guard, environ: dict[str, object]
) -> None:
    """PEP 3333 permits a server to omit an empty SCRIPT_NAME or PATH_INFO."""
    assert not guard.refuses(environ)


def test_guarded_path_in_the_script_name_alone_is_refused(guard: Guard) -> None:
    """A missing PATH_INFO does not bypass the guard."""
    assert guard.refuses({"SCRIPT_NAME": VIEW})


# Properties

DECORATIONS = [
    *("/", "//", "/./", "/x/../", "/;a/../", "/a\\b/../", "/ /../", "\\", ";a=b", ";a/", "?", "#"),
    *(".json", ".", " ", "\n", "\0", "\xff", "%2F", "%252e%252e/", "/..", "/..;/", "../", "x"),
    *("\xef\xbc\x8f", "\xe2\x80\xa5/", "\xef\xbc\x9b", "\xef\xbc\x85", "\xe2\x80\x8b", "%", "25"),
]
lookalikes = {"s": ["S", "\xc5\xbf", "%73"], "i": ["I", "\xc4\xb0", "\xc4\xb1", "\xef\xbd\x89"]}


@st.composite
def decorated(draw: st.DrawFn) -> str:
    """Draw the view's path with replaced letters and inserted decorations."""
    letters = [draw(st.sampled_from([c, c, *lookalikes.get(c, [c.upper()])])) for c in VIEW]
    inserts = st.tuples(st.sampled_from([0, 1, 8, 9, 9, 10, 17, 17]), st.sampled_from(DECORATIONS))
    for index, decoration in draw(st.lists(inserts, max_size=5)):
        letters.insert(index, decoration)
    return "".join(letters)


routes = st.tuples(
    st.lists(st.sampled_from(routers.STEPS), min_size=1, max_size=6), st.integers(0, 12)
)


def route(path: str, steps: Sequence[Callable[[str], str]], extension_at: int) -> str:
    """Return the path that a router with *steps* looks up; one step drops the extension."""
    result = routers.decoded(path)
    for index, step in enumerate(steps):
        if index == extension_at:
            result = routers.strip_extension(result)
        result = step(result)
    return result


@given(decorated(), routes)
@example("/sessions/;a/../cleanup", ([routers.traverse], 9))
@example("/sessions/cleanup.js%2Eon", ([routers.merge_slashes], 0))
@example("/sessions/cleanup.?/x", ([routers.cut_query, routers.merge_slashes], 1))
def test_path_that_any_router_maps_to_the_view_is_refused(
    path: str, router: tuple[list[Callable[[str], str]], int]
) -> None:
    """No order of a router's steps maps an allowed path to the view."""
    if routers.below(route(path, *router), VIEW):
        assert Guard([("cleanup", VIEW)]).refuses(environ_of(path))


@given(decorated(), routes, st.integers(0, 20))
def test_script_name_with_a_part_of_the_path_is_refused(
    path: str, router: tuple[list[Callable[[str], str]], int], cut: int
) -> None:
    """A router may join script name and path."""
    if routers.below(route(path, *router), VIEW):
        environ = environ_of(path[cut:], path[:cut])
        assert Guard([("cleanup", VIEW)]).refuses(environ)


@given(decorated())
def test_mount_that_shifts_segments_is_refused(path: str) -> None:
    """The first segments may be in the script name, with their slashes."""
    script, rest = "", path
    while rest.strip("/") and not script.strip("/"):
        head, _, tail = rest.lstrip("/").partition("/")
        script, rest = f"{script}/{head}", f"/{tail}"
    if routers.traverse(script + rest) == VIEW:
        guard = Guard([("cleanup", VIEW)])
        assert guard.refuses(environ_of(rest, script))
        assert guard.refuses(environ_of(path))


plain_segment = st.one_of(
    st.sampled_from(["sessions", "cleanup", "Sessions", "session", "cleanup-all", "cleanups"]),
    st.text("abcdefgz019-_~+,@!$&'()*=:", min_size=1, max_size=8),
)


@given(st.lists(plain_segment, max_size=4))
def test_plain_path_is_refused_only_if_its_segments_are_guarded(
    segments: list[str],
) -> None:
    """Without decorations, the guard compares whole segments."""
    guarded = [segment.lower() for segment in segments[:2]] == ["sessions", "cleanup"]
    path = "/" + "/".join(segments)
    assert Guard([("cleanup", VIEW)]).refuses(environ_of(path)) is guarded


@given(decorated())
def test_second_decision_equals_the_first(path: str) -> None:
    """The cache never changes a decision."""
    guard = Guard([("cleanup", VIEW)])
    assert guard.refuses(environ_of(path)) is guard.refuses(environ_of(path))


# Format suffixes of several parts

SUFFIXES = [
    *(".tar.gz", ".a.b.c", ".json.json", ".json.", "..json", "..", "...", "...."),
    *(".tar.gz/", ".tar.gz//", ".tar.gz/.", ".tar.gz;a=b", ".a.b;c", ".tar.gz.", "../"),
]
SUFFIX_PARTS = [".json", ".", "/", ";a=b", ".a;b", ";", "/.", ".tar", "//"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_format_suffix_of_several_parts_is_refused(guard: Guard, suffix: str) -> None:
    """A route with a format suffix maps the path to the view."""
    require(VIEW in routers.reductions(VIEW + suffix), "a suffix that reduces to the view")
    assert guard.refuses(environ_of(VIEW + suffix))


def test_each_suffix_of_three_parts_that_reduces_to_the_view_is_refused(guard: Guard) -> None:
    """The parts are extensions, slashes and parameters, in any order."""
    suffixes = map("".join, itertools.product(["", *SUFFIX_PARTS], repeat=3))
    leading = [suffix for suffix in suffixes if VIEW in routers.reductions(VIEW + suffix)]
    assert [suffix for suffix in leading if not guard.refuses(environ_of(VIEW + suffix))] == []


@settings(report_multiple_bugs=False)
@given(
    decorated(),
    st.lists(st.sampled_from([*routers.STEPS, *routers.REDUCTIONS]), min_size=1, max_size=8),
)
@example("/sessions/cleanup.tar.gz", [routers.strip_extension, routers.strip_extension])
@example("/sessions/cleanup...", [routers.strip_formats])
def test_path_that_a_router_reduces_repeatedly_to_the_view_is_refused(
    path: str, steps: list[Callable[[str], str]]
) -> None:
    """A router may drop extensions more than once, with other steps in between."""
    seen = routers.decoded(path)
    for step in steps:
        seen = step(seen)
    if routers.below(seen, VIEW):
        assert Guard([("cleanup", VIEW)]).refuses(environ_of(path))


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ("/sessions/cleanup.json", "/sessions/cleanup"),
        ("/sessions/cleanup.json", "/sessions/cleanup.xml"),
        ("/sessions/cleanup.json", "/sessions/cleanup/"),
        ("/sessions/cleanup.tar.gz", "/sessions/cleanup.tar"),
        ("/sessions/cleanup.tar.gz", "/sessions/cleanup.zip"),
        ("/sessions/cleanup.", "/sessions/cleanup"),
    ],
)
def test_action_with_a_format_suffix_guards_the_other_formats(action: str, path: str) -> None:
    """A request without the suffix, or with another one, reaches the same view."""
    assert Guard([("cleanup", action)]).refuses(environ_of(path))


def test_path_below_a_segment_with_a_suffix_passes(guard: Guard) -> None:
    """Only the last segment of a path has a format suffix."""
    assert not guard.refuses(environ_of("/sessions/cleanup.v2/x.tar.gz"))


# Guarded paths


@pytest.mark.parametrize("path", ["/", "", "//", "/.", "/..", "/a/..", "/;x", "/\xff", "/%2F"])
def test_root_is_rejected(path: str) -> None:
    """A guarded root would refuse the whole site; the error names the task."""
    with pytest.raises(ConfigError, match=r"^home\.action: expected a path below the root"):
        Guard([("home", path)])


def test_all_guarded_roots_are_reported_together() -> None:
    """One error names every such task."""
    with pytest.raises(ConfigError) as caught:
        Guard([("first", "/"), ("valid", "/valid"), ("second", "//")])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "first.action",
        "second.action",
    ]


def test_guard_without_paths_refuses_nothing() -> None:
    """Even an ambiguous path is allowed."""
    assert not Guard([]).refuses(environ_of("/x/../y"))


@pytest.mark.parametrize("order", [1, -1], ids=["short first", "long first"])
def test_parent_path_guards_its_children(order: int) -> None:
    """The order of nested paths has no effect."""
    guard = Guard([("a", "/a"), ("b", "/a/b/c")][::order])
    assert [guard.refuses(environ_of(path)) for path in ("/a", "/a/b", "/a/b/c", "/b")] == [
        True,
        True,
        True,
        False,
    ]


def test_paths_with_a_common_prefix_are_guarded() -> None:
    """The common prefix itself is not guarded."""
    guard = Guard([("a", "/a/b/c"), ("b", "/a/b/d"), ("c", "/a/e")])
    assert [
        guard.refuses(environ_of(path)) for path in ("/a/b/c", "/a/b/d", "/a/e", "/a/b", "/a")
    ] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_ambiguous_path_is_compared_with_each_guarded_path() -> None:
    """Any subsequence of the segments may be the path that a router sees."""
    guard = Guard([("a", "/a/b/c"), ("b", "/a/d")])
    refused = [
        guard.refuses(environ_of(path)) for path in ("/a/x/../b/c", "/a/b/../d", "/a/b/../x")
    ]
    assert refused == [True, True, False]


def test_guarded_path_is_stored_in_its_canonical_form() -> None:
    """The path of a task and the path of a request have the same canonical form."""
    path = "/Caf\xc3\xa9/Clean%20up;x"
    assert Guard([("odd", path)]).refuses(environ_of(path))


def test_added_path_is_refused() -> None:
    """A path that was allowed before is refused."""
    guard = Guard([("cleanup", VIEW)])
    guard.refuses(environ_of("/later"))
    guard.add("later", "/later")
    assert guard.refuses(environ_of("/later"))


def test_added_root_is_rejected() -> None:
    """The guard stays unchanged."""
    guard = Guard([("cleanup", VIEW)])
    with pytest.raises(ConfigError, match="home"):
        guard.add("home", "/")
    assert not guard.refuses(environ_of("/"))


# The cache


def test_allowed_path_is_cached(guard: Guard) -> None:
    """A middleware may read the cache with script name and path."""
    guard.refuses(environ_of("/ordinary", "/app"))
    assert ("/app", "/ordinary") in guard.allowed


def test_refused_path_is_not_cached(guard: Guard) -> None:
    """The cache contains only allowed paths."""
    guard.refuses(environ_of(VIEW))
    assert not guard.allowed


def test_cache_is_bounded_in_entries(guard: Guard) -> None:
    """Random paths do not exhaust the memory."""
    sizes = set()
    for number in range(2 * MAX_ALLOWED_CACHED + 10):
        guard.refuses(environ_of(f"/random/{number}"))
        sizes.add(len(guard.allowed))
    assert max(sizes) == MAX_ALLOWED_CACHED


def test_new_path_is_cached_after_many_random_paths(guard: Guard) -> None:
    """A full cache is cleared."""
    for number in range(MAX_ALLOWED_CACHED):
        guard.refuses(environ_of(f"/random/{number}"))
    guard.refuses(environ_of("/ordinary"))
    assert ("", "/ordinary") in guard.allowed


@pytest.mark.parametrize(
    ("length", "cached"), [(MAX_CACHED_LENGTH, True), (MAX_CACHED_LENGTH + 1, False)]
)
def test_long_path_is_not_cached(guard: Guard, length: int, cached: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The cache is bounded in bytes, too."""
    guard.refuses(environ_of("/" * length))
    assert bool(guard.allowed) is cached


def test_cache_is_bounded_in_bytes(guard: Guard) -> None:
    """A cache full of the longest paths has a size of a few megabytes."""
    longest = MAX_CACHED_LENGTH - 8
    for number in range(MAX_ALLOWED_CACHED):
        guard.refuses(environ_of(f"/{number:07d}".ljust(longest, "x"), "/script"))
    keys = sum(sys.getsizeof(key) + sum(map(sys.getsizeof, key)) for key in guard.allowed)
    assert keys + sys.getsizeof(guard.allowed) < 3_000_000


# The response, the proof


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_forbid_returns_a_valid_response(method: str) -> None:
    """The body is plain text of the declared length, without a body for HEAD."""
    environ: dict[str, object] = {"REQUEST_METHOD": method, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], None]:
        started.append((status, headers))
        return lambda _chunk: None

    chunks = validator(forbid)(environ, start_response)
    body = b"".join(chunks)
    chunks.close()
    assert started == [
        ("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    ]
    assert body == (b"" if method == "HEAD" else b"403 Forbidden\n")


def test_run_in_the_environ_identifies_a_request_of_pulse() -> None:
    """The middleware adds the Run object to the environ."""
    assert is_run({"pulse.run": Run(id="1", task="cleanup", fire_time=0)})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"pulse.run": "1"},
        {"pulse.run": True},
        {"pulse.run": {"id": "1"}},
        dict.fromkeys(PULSE_HEADERS, "1"),
        {"HTTP_PULSE_RUN": "1", "HTTP_PULSE.RUN": "1"},
    ],
    ids=["nothing", "text", "true", "a dict", "headers", "similar names"],
)
def test_headers_do_not_identify_a_request_of_pulse(environ: dict[str, object]) -> None:
    """A header appears in the environ as text with an HTTP name."""
    assert not is_run(environ)


def test_pulse_headers_are_the_headers_that_a_run_sends() -> None:
    """The middleware removes all these headers from requests of outsiders."""
    sent: dict[str, object] = {}

    def app(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        sent.update(environ)
        start_response("200 OK", [])
        return []

    Dispatcher(app, multithread=True).call(make_claim())
    assert {name for name in sent if name.startswith("HTTP_X_PULSE_")} == set(PULSE_HEADERS)


@pytest.mark.parametrize("request_", [None, object()], ids=["none", "request"])
def test_is_run_rejects_other_values_than_an_environ(request_: object) -> None:
    """The error names the attribute of a framework's request to pass."""
    with pytest.raises(BadValueError, match=r"expected the environ .* request\.environ, got"):
        is_run(request_)
