"""Over trees of ini files, `pulse check` finds the middlewares that PasteDeploy builds."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from hypothesis import event, given, settings
from hypothesis import strategies as st
from paste.deploy import loadapp

from pulse.cli.check import check
from pulse.cli.load import load_file
from pulse.config.paste import Factories, find_sections
from pulse.middleware import PulseMiddleware, pulse_app_factory, pulse_filter_app_factory
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILES = ("site.ini", "api.ini", "parts/base.ini")
FACTORIES = Factories(pulse_filter_app_factory, pulse_app_factory)
FILTERS = ("pulse", "pulse by factory", "pulse in parts", "other filter", "renamed filter")
CANNOT_SERVE = " cannot serve: "
FILTERED = ("filtered pipeline", "filtered filter-app", "filtered alias")
APPS = ("app", "pipeline", "alias", "filter-app", "composite", "chooser", "filter-with", *FILTERED)


def respond(_environ: dict, start_response: Callable) -> list[bytes]:
    """Return a successful response."""
    start_response("200 OK", [])
    return [b"done"]


def make_site(_global_conf: dict[str, str], **_: str) -> object:
    """Return an application; the function is an app factory."""
    return respond


def make_filter(_global_conf: dict[str, str], **_: str) -> object:
    """Return a filter that changes nothing; the function is a filter factory."""
    return lambda app: app


def make_mounts(loader: Any, global_conf: dict[str, str], **mounts: str) -> object:
    """Load every application that the section names; the function is a composite factory."""
    return [loader.get_app(name, global_conf=global_conf) for name in mounts.values()].pop()


def make_chosen(loader: Any, global_conf: dict[str, str], **pipelines: str) -> object:
    """Build one of several pipelines, as OpenStack's `pipeline_factory` does."""
    *filters, name = pipelines[global_conf.get("strategy", "one")].split()
    app = loader.get_app(name, global_conf=global_conf)
    for each in reversed(filters):
        app = loader.get_filter(each, global_conf=global_conf)(app)
    return app


class Node(NamedTuple):
    """A section of a generated tree; it refers to sections of higher numbers only."""

    file: str
    kind: str
    applications: tuple[int, ...]
    filters: tuple[int, ...]


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    """Return the nodes of a tree; number 0 is the main application."""
    number = draw(st.integers(1, 5))
    filters = draw(st.integers(1, 3))
    nodes = []
    for place in range(number + filters):
        last = number - 1
        kinds = FILTERS if place >= number else ("app",) if place == last else APPS
        inner = st.integers(place + 1, last) if place < last else st.nothing()
        later = st.integers(max(place + 1, number), number + filters - 1)
        can_use = place < number + filters - 1
        nodes.append(
            Node(
                file=FILES[0] if place == 0 else draw(st.sampled_from(FILES)),
                kind=draw(st.sampled_from(kinds)),
                applications=tuple(draw(st.lists(inner, min_size=2, max_size=2)))
                if place < last
                else (),
                filters=tuple(draw(st.lists(later, min_size=1, max_size=3))) if can_use else (),
            )
        )
    return nodes


def name_of(place: int) -> str:
    """Return the name of a section."""
    return f"s{place}" if place else "main"


def reference(nodes: list[Node], source: str, target: int) -> str:
    """Return the name by which a section of the file *source* refers to another one."""
    if nodes[target].file == source:
        return name_of(target)
    up = "../" * source.count("/")
    return f"config:{up}{nodes[target].file}#{name_of(target)}"


def pulse_lines(place: int) -> list[str]:
    """Return the settings of a middleware with one task."""
    return [
        "pulse.config.store = memory:",
        "pulse.config.start = off",
        f"pulse.task.t{place}.action = /t{place}",
        f"pulse.task.t{place}.interval = 5m",
    ]


def section(nodes: list[Node], place: int) -> str:
    """Return the text of a section."""
    node = nodes[place]
    one, two = [*(reference(nodes, node.file, each) for each in node.applications), "", ""][:2]
    filters = [reference(nodes, node.file, each) for each in node.filters]
    whole = " ".join((*filters, one))
    site = f"paste.app_factory = {__name__}:make_site"
    same = f"paste.filter_factory = {__name__}:make_filter"
    by_factory = "paste.filter_app_factory = pulse.middleware:pulse_filter_app_factory"
    lines = pulse_lines(place)
    own = [f"pulse.task.more{place}.action = /more", f"pulse.task.more{place}.interval = 1h"]
    filter_with = [f"filter-with = {each}" for each in filters[:1]]
    sort = node.kind.removeprefix("filtered ") if node.kind in FILTERED else node.kind
    kind, body = {
        "app": ("app", [site]),
        "pipeline": ("pipeline", [f"pipeline = {whole}"]),
        "alias": alias(nodes, node, one),
        "filter-app": ("filter-app", [by_factory, f"next = {one}", *lines]),
        "composite": (
            "composite",
            [f"use = call:{__name__}:make_mounts", f"/a = {one}", f"/b = {two}"],
        ),
        "chooser": (
            "composite",
            [f"paste.composite_factory = {__name__}:make_chosen", f"one = {whole}", f"two = {two}"],
        ),
        "filter-with": ("app", [site, *filter_with]),
        "pulse": ("filter", ["use = egg:pulse", *lines]),
        "pulse by factory": ("filter", [by_factory, *lines]),
        "pulse in parts": ("filter", used(nodes, node, [by_factory, *lines]) + own),
        "renamed filter": ("filter", used(nodes, node, [same])),
        "other filter": ("filter", [same, *filter_with]),
    }[sort]
    body += filter_with if node.kind in FILTERED else []
    return "\n".join((f"[{kind}:{name_of(place)}]", *body, ""))


def alias(nodes: list[Node], node: Node, target: str) -> tuple[str, list[str]]:
    """Return a section that is another application.

    A composite of another file is no target of `use`: PasteDeploy would look for its applications
    in the file of the alias.
    """
    if node.applications and target.startswith("config:"):
        kind = nodes[node.applications[0]].kind
        if kind in {"alias", "filtered alias", "composite", "chooser"}:
            return "pipeline", [f"pipeline = {target}"]
    return "app", [f"use = {target}"]


def used(nodes: list[Node], node: Node, otherwise: list[str]) -> list[str]:
    """Return the setting `use` for the first filter, if it is of the same sort as *node*."""
    for target in node.filters[:1]:
        if ("pulse" in nodes[target].kind) is ("pulse" in node.kind):
            return [f"use = {reference(nodes, node.file, target)}"]
    return otherwise


def write(folder: Path, nodes: list[Node], *, without: int | None = None) -> Path:
    """Write the files of a tree, and return the first one."""
    for file in FILES:
        parts = ["[DEFAULT]\npulse.config.timezone = Europe/Berlin\n"]
        for place, node in enumerate(nodes):
            if node.file == file and place != without:
                parts.append(section(nodes, place))
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(parts))
    return folder / FILES[0]


def built_by_paste(file: Path, global_conf: dict[str, str]) -> Counter[tuple[str, ...]]:
    """Return the tasks of each middleware that PasteDeploy builds for the main application."""
    built: Counter[tuple[str, ...]] = Counter()
    build = PulseMiddleware.__init__

    def build_and_count(self: PulseMiddleware, *args: object, **keywords: object) -> None:
        build(self, *args, **keywords)
        built[tuple(sorted(self.runtime.settings.tasks))] += 1

    with patch.object(PulseMiddleware, "__init__", build_and_count):
        loadapp(f"config:{file}", global_conf=global_conf)
    return built


def tasks_of(local_conf: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the tasks of a section."""
    return tuple(sorted({key.split(".")[2] for key in local_conf if key.startswith("pulse.task.")}))


def found_by_check(file: Path, global_conf: dict[str, str]) -> Counter[tuple[str, ...]]:
    """Return the tasks of each middleware that check finds in the main application."""
    search = find_sections(file, FACTORIES, global_conf=global_conf)
    roots = [name for name in search.applications if name.endswith(":main")]
    found: Counter[tuple[str, ...]] = Counter()
    for position, number in search.applications[roots[0]].items():
        found[tasks_of(search.sections[position].local_conf)] += number
    return found


def problems_of_reading(file: Path) -> Iterator[str]:
    """Yield the problems that check reports, without those about filters that are not used."""
    for problem in check(file, clock=FakeClock()).problems:
        if "a server runs none of its tasks" not in problem and "found none" not in problem:
            yield problem


def serves(file: Path, name: str) -> bool:
    """Return whether an application that PasteDeploy loads answers a request."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": ""}
    app = loadapp(f"config:{file}", name=name)
    try:
        list(app(environ, lambda _status, _headers, _exc_info=None: None))
    except TypeError:
        return False
    return True


@settings(max_examples=60)
@given(nodes=trees(), strategy=st.sampled_from(["one", "two"]))
def test_check_finds_the_middlewares_that_paste_builds(nodes: list[Node], strategy: str) -> None:
    """Each middleware is found as often as it is built, with the same tasks."""
    with tempfile.TemporaryDirectory() as folder:
        file, global_conf = write(Path(folder), nodes), {"strategy": strategy}
        built = built_by_paste(file, global_conf)
        event(f"middlewares: {built.total()}")
        assert found_by_check(file, global_conf) == built


@settings(max_examples=40)
@given(nodes=trees())
def test_check_lists_each_section_that_is_built_once(nodes: list[Node]) -> None:
    """A tree that a server loads has no section that cannot be read, and none is listed twice."""
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), nodes)
        built = built_by_paste(file, {})
        problems = [each for each in problems_of_reading(file) if CANNOT_SERVE not in each]
        assert problems == []
        listed = Counter(tuple(sorted(found.settings.tasks)) for found in load_file(file).sections)
        assert built.keys() <= listed.keys()
        assert max(listed.values(), default=1) == 1


@settings(max_examples=60)
@given(nodes=trees())
def test_check_reports_an_application_that_answers_no_request(nodes: list[Node]) -> None:
    """PasteDeploy makes a filter of what is filtered, unless it is made by an app factory."""
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), nodes)
        problems = [each for each in problems_of_reading(file) if CANNOT_SERVE in each]
        event(f"sections that cannot serve: {len(problems)}")
        assert problems or serves(file, "main")
        for problem in problems:
            own, _, other = problem.partition(CANNOT_SERVE)
            if other.startswith("filter-with"):  # else the section is in another file
                assert not serves(file, own.strip("[]").partition(":")[2])


@settings(max_examples=40)
@given(nodes=trees(), data=st.data())
def test_check_reports_a_tree_that_paste_cannot_load(
    nodes: list[Node], data: st.DataObject
) -> None:
    """If one section is removed, either the server loads the rest, or check has a problem."""
    removed = data.draw(st.integers(0, len(nodes) - 1))
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), nodes, without=removed)
        try:
            loadapp(f"config:{file}")
        except LookupError:
            event("not loadable")
            assert removed == 0 or list(problems_of_reading(file)) != []
