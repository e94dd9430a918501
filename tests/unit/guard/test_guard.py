"""The guard: what it refuses, what it lets through, and what its memo costs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulse.core.run import Run
from pulse.errors import BadValueError, ConfigError
from pulse.guard.guard import LONGEST_PASSED, MOST_PASSED, PULSE_HEADERS, Guard, forbid, is_run
from pulse.wsgi.dispatcher import Dispatcher
from tests.support import routers
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VIEW = "/sessions/cleanup"

SPELLINGS = [
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

ORDINARY = [
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
    """Guard one path, as nearly every site does."""
    return Guard([("cleanup", VIEW)])


def asked(path: str, script: str = "") -> dict[str, object]:
    """Return as much of an environ as the guard looks at."""
    return {"SCRIPT_NAME": script, "PATH_INFO": path}


@pytest.mark.parametrize("path", SPELLINGS)
def test_each_spelling_of_a_guarded_path_is_refused(guard: Guard, path: str) -> None:
    """Whatever some router maps onto the view does not pass."""
    assert guard.refuses(asked(path))


@pytest.mark.parametrize("path", ORDINARY)
def test_ordinary_paths_pass(guard: Guard, path: str) -> None:
    """Siblings, parents and namesakes elsewhere are left alone."""
    assert not guard.refuses(asked(path))


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
def test_the_script_name_hides_nothing(guard: Guard, script: str, path: str) -> None:
    """A path is judged with the script name before it as well as alone."""
    assert guard.refuses(asked(path, script))


@pytest.mark.parametrize(
    "environ",
    [{}, {"SCRIPT_NAME": "/mounted"}, {"PATH_INFO": "/"}, asked("/cleanup", "/mounted")],
    ids=["neither", "no path", "no script name", "both"],
)
def test_an_environ_may_lack_what_is_empty(guard: Guard, environ: dict[str, object]) -> None:
    """PEP 3333 lets a server leave out an empty SCRIPT_NAME or PATH_INFO."""
    assert not guard.refuses(environ)


def test_a_path_given_by_the_script_name_alone_is_refused(guard: Guard) -> None:
    """A missing PATH_INFO does not open the door."""
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
    """Draw the view's path with letters exchanged and things put in."""
    letters = [draw(st.sampled_from([c, c, *lookalikes.get(c, [c.upper()])])) for c in VIEW]
    places = st.tuples(st.sampled_from([0, 1, 8, 9, 9, 10, 17, 17]), st.sampled_from(DECORATIONS))
    for place, extra in draw(st.lists(places, max_size=5)):
        letters.insert(place, extra)
    return "".join(letters)


routes = st.tuples(
    st.lists(st.sampled_from(routers.STEPS), min_size=1, max_size=6), st.integers(0, 12)
)


def route(path: str, steps: Sequence[Callable[[str], str]], extension_at: int) -> str:
    """Return what the router that takes *steps* looks up, the extension dropped on its way."""
    seen = routers.decoded(path)
    for place, step in enumerate(steps):
        if place == extension_at:
            seen = routers.strip_extension(seen)
        seen = step(seen)
    return seen


@given(decorated(), routes)
@example("/sessions/;a/../cleanup", ([routers.traverse], 9))
@example("/sessions/cleanup.js%2Eon", ([routers.merge_slashes], 0))
@example("/sessions/cleanup.?/x", ([routers.cut_query, routers.merge_slashes], 1))
def test_what_any_router_maps_onto_the_view_is_refused(
    path: str, router: tuple[list[Callable[[str], str]], int]
) -> None:
    """No order of a router's steps takes a path that passed the guard to the view."""
    if routers.below(route(path, *router), VIEW):
        assert Guard([("cleanup", VIEW)]).refuses(asked(path))


@given(decorated(), routes, st.integers(0, 20))
def test_moving_a_part_into_the_script_name_does_not_help(
    path: str, router: tuple[list[Callable[[str], str]], int], cut: int
) -> None:
    """A router that joins script name and path finds no way round either."""
    if routers.below(route(path, *router), VIEW):
        environ = asked(path[cut:], path[:cut])
        assert Guard([("cleanup", VIEW)]).refuses(environ)


@given(decorated())
def test_a_mount_that_shifts_segments_is_no_way_in(path: str) -> None:
    """The longest run of leading segments may go to the script name, slashes and all."""
    script, rest = "", path
    while rest.strip("/") and not script.strip("/"):
        head, _, tail = rest.lstrip("/").partition("/")
        script, rest = f"{script}/{head}", f"/{tail}"
    if routers.traverse(script + rest) == VIEW:
        guard = Guard([("cleanup", VIEW)])
        assert guard.refuses(asked(rest, script))
        assert guard.refuses(asked(path))


plain_segment = st.one_of(
    st.sampled_from(["sessions", "cleanup", "Sessions", "session", "cleanup-all", "cleanups"]),
    st.text("abcdefgz019-_~+,@!$&'()*=:", min_size=1, max_size=8),
)


@given(st.lists(plain_segment, max_size=4))
def test_a_plain_path_is_refused_only_where_its_segments_are_the_guarded_ones(
    segments: list[str],
) -> None:
    """Without decorations the guard compares whole segments and nothing else."""
    guarded = [segment.lower() for segment in segments[:2]] == ["sessions", "cleanup"]
    path = "/" + "/".join(segments)
    assert Guard([("cleanup", VIEW)]).refuses(asked(path)) is guarded


@given(decorated())
def test_a_second_look_decides_as_the_first(path: str) -> None:
    """The memo never changes an answer."""
    guard = Guard([("cleanup", VIEW)])
    assert guard.refuses(asked(path)) is guard.refuses(asked(path))


# What is guarded


@pytest.mark.parametrize("path", ["/", "", "//", "/.", "/..", "/a/..", "/;x", "/\xff", "/%2F"])
def test_the_root_cannot_be_guarded(path: str) -> None:
    """A guarded root would refuse the whole site, so it is an error that names the task."""
    with pytest.raises(ConfigError, match=r"^home\.action: expected a path below the root"):
        Guard([("home", path)])


def test_all_guarded_roots_are_named_together() -> None:
    """One error tells every task that has to be changed."""
    with pytest.raises(ConfigError) as caught:
        Guard([("one", "/"), ("fine", "/fine"), ("two", "//")])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "one.action",
        "two.action",
    ]


def test_a_guard_of_nothing_refuses_nothing() -> None:
    """No tasks, no refusals, whatever the path looks like."""
    assert not Guard([]).refuses(asked("/x/../y"))


@pytest.mark.parametrize("order", [1, -1], ids=["short first", "long first"])
def test_a_path_above_another_guards_both(order: int) -> None:
    """The order in which nested paths are given does not matter."""
    guard = Guard([("a", "/a"), ("b", "/a/b/c")][::order])
    assert [guard.refuses(asked(path)) for path in ("/a", "/a/b", "/a/b/c", "/b")] == [
        True,
        True,
        True,
        False,
    ]


def test_paths_may_share_their_beginning() -> None:
    """Each of several tasks of one context is guarded, the context is not."""
    guard = Guard([("a", "/a/b/c"), ("b", "/a/b/d"), ("c", "/a/e")])
    assert [guard.refuses(asked(path)) for path in ("/a/b/c", "/a/b/d", "/a/e", "/a/b", "/a")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_dots_in_several_guarded_paths_are_followed_to_each() -> None:
    """Where segments may be missing every guarded path is tried."""
    guard = Guard([("a", "/a/b/c"), ("b", "/a/d")])
    found = [guard.refuses(asked(path)) for path in ("/a/x/../b/c", "/a/b/../d", "/a/b/../x")]
    assert found == [True, True, False]


def test_a_guarded_path_of_odd_spelling_guards_itself() -> None:
    """The path of a task goes through the same canonical form as a request."""
    path = "/Caf\xc3\xa9/Clean%20up;x"
    assert Guard([("odd", path)]).refuses(asked(path))


def test_a_path_can_be_added_later() -> None:
    """What had passed before is decided anew once it is guarded."""
    guard = Guard([("cleanup", VIEW)])
    guard.refuses(asked("/later"))
    guard.add("later", "/later")
    assert guard.refuses(asked("/later"))


def test_the_root_cannot_be_added_later() -> None:
    """The same error as at the start, and the guard stays as it was."""
    guard = Guard([("cleanup", VIEW)])
    with pytest.raises(ConfigError, match="home"):
        guard.add("home", "/")
    assert not guard.refuses(asked("/"))


# The memo


def test_a_path_that_passed_is_in_the_memo(guard: Guard) -> None:
    """A middleware may ask the memo itself by script name and path."""
    guard.refuses(asked("/ordinary", "/app"))
    assert ("/app", "/ordinary") in guard.passed


def test_a_refused_path_is_not_in_the_memo(guard: Guard) -> None:
    """Nothing in the memo may keep the guard from refusing."""
    guard.refuses(asked(VIEW))
    assert not guard.passed


def test_the_memo_never_outgrows_its_bound(guard: Guard) -> None:
    """Random paths do not fill the memory."""
    sizes = set()
    for number in range(2 * MOST_PASSED + 10):
        guard.refuses(asked(f"/random/{number}"))
        sizes.add(len(guard.passed))
    assert max(sizes) == MOST_PASSED


def test_a_flood_does_not_keep_new_paths_out_of_the_memo(guard: Guard) -> None:
    """After any number of random paths an ordinary one is remembered again."""
    for number in range(MOST_PASSED):
        guard.refuses(asked(f"/random/{number}"))
    guard.refuses(asked("/ordinary"))
    assert ("", "/ordinary") in guard.passed


@pytest.mark.parametrize(("length", "kept"), [(LONGEST_PASSED, True), (LONGEST_PASSED + 1, False)])
def test_long_paths_are_not_kept(guard: Guard, length: int, kept: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The memo is bounded in bytes too: a long path is decided each time."""
    guard.refuses(asked("/" * length))
    assert bool(guard.passed) is kept


def test_the_memo_stays_small_in_bytes(guard: Guard) -> None:
    """A memo full of the longest paths it takes holds a few megabytes."""
    longest = LONGEST_PASSED - 8
    for number in range(MOST_PASSED):
        guard.refuses(asked(f"/{number:07d}".ljust(longest, "x"), "/script"))
    keys = sum(sys.getsizeof(key) + sum(map(sys.getsizeof, key)) for key in guard.passed)
    assert keys + sys.getsizeof(guard.passed) < 3_000_000


# The refusal, the capability


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_the_refusal_is_a_proper_answer(method: str) -> None:
    """It is plain text of the length it says, without a body for HEAD, and says nothing more."""
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


def test_the_run_in_the_environ_is_the_proof() -> None:
    """The value that pulse puts there makes a request one of its own."""
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
    ids=["nothing", "text", "true", "a dict", "headers", "names alike"],
)
def test_nothing_that_comes_over_the_wire_is_a_proof(environ: dict[str, object]) -> None:
    """Headers end up as text under HTTP names, whatever they are called."""
    assert not is_run(environ)


def test_the_headers_that_outsiders_lose_are_those_that_pulse_sends() -> None:
    """None of the names that a run carries can come from outside."""
    sent: dict[str, object] = {}

    def app(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        sent.update(environ)
        start_response("200 OK", [])
        return []

    Dispatcher(app, multithread=True).call(make_claim())
    assert {name for name in sent if name.startswith("HTTP_X_PULSE_")} == set(PULSE_HEADERS)


@pytest.mark.parametrize("request_", [None, object()], ids=["none", "request"])
def test_what_is_no_environ_is_told_of(request_: object) -> None:
    """Whoever passes the framework's request learns what to pass instead."""
    with pytest.raises(BadValueError, match=r"expected the environ .* request\.environ, got"):
        is_run(request_)
