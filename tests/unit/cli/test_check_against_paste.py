"""Compares `pulse check` with the middlewares that PasteDeploy builds from the same file."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paste.deploy import loadapp

from pulse.cli.check import check
from pulse.cli.main import main
from pulse.errors import ConfigError, NotServingError, PulseError
from pulse.middleware import PulseMiddleware
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Write = Callable[[Mapping[str, str]], Path]

ROOT = Path(__file__).parents[3]


def respond(_environ: dict, start_response: Callable) -> list[bytes]:
    """Return a successful response."""
    start_response("200 OK", [])
    return [b"done"]


def make_site(_global_conf: dict[str, str]) -> object:
    """Return an application; the function is an app factory."""
    return respond


def make_mounts(loader: Any, global_conf: dict[str, str], **mounts: str) -> object:
    """Build a composite: each key is a path, each value the name of an application."""
    for name in mounts.values():
        loader.get_app(name, global_conf=global_conf)
    return respond


SITE = f"""
[app:site]
paste.app_factory = {__name__}:make_site
"""
COMPOSITE = f"""
[composite:main]
paste.composite_factory = {__name__}:make_mounts
"""


def section(task: str, *, name: str = "filter:pulse", use: str = "use = egg:pulse") -> str:
    """Return a section of pulse with one task."""
    return f"""
[{name}]
{use}
pulse.config.name = {task}
pulse.task.{task}.action = /{task}
pulse.task.{task}.interval = 5m
"""


def pipeline(*parts: str, name: str = "main") -> str:
    """Return a pipeline of these parts."""
    return f"\n[pipeline:{name}]\npipeline = {' '.join(parts)}\n"


def complete_file(task: str) -> str:
    """Return a file whose main application is a site behind pulse."""
    return pipeline("pulse", "site") + section(task) + SITE


@pytest.fixture
def write(ini: Callable[..., Path]) -> Write:
    """Return a function that writes ini files, and returns the path of the first one."""

    def write_files(texts: Mapping[str, str]) -> Path:
        first, *_ = [ini(text, name=name) for name, text in texts.items()]
        return first

    return write_files


@pytest.fixture
def built() -> Iterator[list[PulseMiddleware]]:
    """Return a list that collects each PulseMiddleware built during the test."""
    middlewares: list[PulseMiddleware] = []
    build = PulseMiddleware.__init__

    def build_and_record(self: PulseMiddleware, *args: object, **keywords: object) -> None:
        build(self, *args, **keywords)
        middlewares.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PulseMiddleware, "__init__", build_and_record)
        yield middlewares


def load(file: Path) -> object:
    """Return the main application of *file* as a server loads it."""
    return loadapp(f"config:{file}")


def tasks_of(built: list[PulseMiddleware]) -> list[str]:
    """Return the names of all tasks of the middlewares."""
    return sorted(name for app in built for name in app.runtime.settings.tasks)


def tasks_checked(file: Path) -> list[str]:
    """Return the names of the tasks that `pulse check` lists."""
    lines = check(file, clock=FakeClock()).lines
    return sorted(line.partition(":")[0] for line in lines if line[0] not in "[ ")


def problems_of(file: Path) -> list[str]:
    """Return the problems that `pulse check` reports."""
    return check(file, clock=FakeClock()).problems


# Sections that no server can load --------------------------------------------------------------

FACTORY = "pulse.middleware:pulse_filter_app_factory"
UNLOADABLE = {
    "a call in a filter": pipeline("pulse", "site") + section("work", use=f"use = call:{FACTORY}"),
    "a filter factory": pipeline("pulse", "site")
    + section("work", use=f"paste.filter_factory = {FACTORY}"),
    "a call in an app": section("work", name="app:main", use=f"use = call:{FACTORY}"),
    "an app factory": section("work", name="app:main", use=f"paste.app_factory = {FACTORY}"),
    "a composite factory": section(
        "work", name="composite:main", use=f"paste.composite_factory = {FACTORY}"
    ),
}
"""Files whose section declares pulse's factory as a factory of another kind."""

all_unloadable = pytest.mark.parametrize("text", UNLOADABLE.values(), ids=UNLOADABLE)


@all_unloadable
def test_section_with_a_factory_of_another_kind_cannot_be_loaded(text: str, write: Write) -> None:
    """PasteDeploy calls the factory with arguments that it does not accept."""
    file = write({"site.ini": text + SITE})
    with pytest.raises((TypeError, ConfigError)):
        load(file)


@all_unloadable
def test_check_reports_a_factory_of_another_kind(text: str, write: Write) -> None:
    """The problem describes the correct use of pulse in a section."""
    (problem,) = problems_of(write({"site.ini": text + SITE})) or [""]
    assert "use = egg:pulse" in problem


# Middlewares that a server builds and check does not list ---------------------------------------

MOUNTED = {
    "another file": (
        ["api"],
        {
            "site.ini": f"{COMPOSITE}/api = config:api.ini\n/ = site\n{SITE}",
            "api.ini": complete_file("api"),
        },
    ),
    "a section of another file": (
        ["api"],
        {
            "site.ini": f"{COMPOSITE}/api = config:api.ini#v2\n/ = site\n{SITE}",
            "api.ini": pipeline("pulse", "site", name="v2") + section("api") + SITE,
        },
    ),
    "two other files": (
        ["api", "shop"],
        {
            "site.ini": f"{COMPOSITE}/api = config:api.ini\n/shop = config:shop.ini\n",
            "api.ini": complete_file("api"),
            "shop.ini": complete_file("shop"),
        },
    ),
    "a file that mounts a file": (
        ["api"],
        {
            "site.ini": f"{COMPOSITE}/all = config:all.ini\n",
            "all.ini": f"{COMPOSITE}/api = config:api.ini\n",
            "api.ini": complete_file("api"),
        },
    ),
    "another file and a middleware of its own": (
        ["api", "home"],
        {
            "site.ini": f"{COMPOSITE}/api = config:api.ini\n/ = home\n{SITE}{section('home')}"
            + pipeline("pulse", "site", name="home"),
            "api.ini": complete_file("api"),
        },
    ),
    "a pipeline through another file and a middleware of its own": (
        ["api", "home"],
        {
            "site.ini": pipeline("pulse", "config:api.ini#pulse", "site") + section("home") + SITE,
            "api.ini": section("api"),
        },
    ),
}
"""The tasks that a server runs, and the files that it loads."""

all_mounted = pytest.mark.parametrize(("tasks", "texts"), MOUNTED.values(), ids=MOUNTED)


@all_mounted
def test_paste_builds_the_middlewares_of_mounted_files(
    tasks: list[str], texts: dict[str, str], write: Write, built: list[PulseMiddleware]
) -> None:
    """A composite loads each application that it names, from any file."""
    load(write(texts))
    assert tasks_of(built) == tasks


@all_mounted
def test_check_lists_the_tasks_of_mounted_files(
    tasks: list[str], texts: dict[str, str], write: Write
) -> None:
    """Every middleware that a server builds is listed once."""
    assert tasks_checked(write(texts)) == tasks


# Middlewares that check lists and no server builds ----------------------------------------------

UNREFERENCED = {
    "a pipeline without the filter": pipeline("site"),
    "an app without a filter": f"\n[app:main]\npaste.app_factory = {__name__}:make_site\n",
    "a composite of the app": f"{COMPOSITE}/ = site\n",
}
"""Main applications that do not reference the section of pulse."""

all_unreferenced = pytest.mark.parametrize("text", UNREFERENCED.values(), ids=UNREFERENCED)


@all_unreferenced
def test_paste_does_not_build_an_unreferenced_filter(
    text: str, write: Write, built: list[PulseMiddleware]
) -> None:
    """The site is served, and no task runs."""
    load(write({"site.ini": text + section("work") + SITE}))
    assert tasks_of(built) == []


@all_unreferenced
def test_check_reports_an_unreferenced_filter(text: str, write: Write) -> None:
    """The problem names the section whose tasks no server will run."""
    problems = problems_of(write({"site.ini": text + section("work") + SITE}))
    assert [problem for problem in problems if "filter:pulse" in problem] != []


MISSING = {
    "a pipeline": pipeline("puls", "site"),
    "a second filter": pipeline("pulse", "sessions", "site"),
    "an app": pipeline("pulse", "sight"),
    "filter-with": f"\n[app:main]\npaste.app_factory = {__name__}:make_site\nfilter-with = puls\n",
    "a composite": f"{COMPOSITE}/ = sight\n",
    "a composite of another file": "\n[app:main]\nuse = config:other.ini#sights\n",
}
"""Main applications that reference a missing section.

The last one uses a composite, whose applications PasteDeploy then looks for in the first file.
"""
OTHER = COMPOSITE.replace("main", "sights") + "/ = sight\n" + SITE.replace("app:site", "app:sight")

all_missing = pytest.mark.parametrize("text", MISSING.values(), ids=MISSING)


@all_missing
def test_paste_rejects_a_missing_section(text: str, write: Write) -> None:
    """The server does not start."""
    file = write({"site.ini": text + section("work") + SITE, "other.ini": OTHER})
    with pytest.raises(LookupError):
        load(file)


@all_missing
def test_check_reports_a_missing_section(text: str, write: Write) -> None:
    """The problem quotes the name."""
    problems = problems_of(write({"site.ini": text + section("work") + SITE, "other.ini": OTHER}))
    assert [p for p in problems if "puls'" in p or "sessions" in p or "sight" in p] != []


# Relative paths ---------------------------------------------------------------------------------

RELATIVE = {
    "a filter": pipeline("pulse", "site")
    + "\n[filter:pulse]\nuse = config:base.ini#pulse\n"
    + SITE,
    "a pipeline": pipeline("config:base.ini#pulse", "site") + SITE,
    "an app": "\n[app:main]\nuse = config:base.ini\n",
}
"""Files that reference another file in the same folder."""

all_relative = pytest.mark.parametrize("text", RELATIVE.values(), ids=RELATIVE)


@all_relative
def test_check_follows_a_reference_from_an_absolute_path(text: str, write: Write) -> None:
    """The other file is in the folder of the first file."""
    file = write({"dev.ini": text, "base.ini": complete_file("work")})
    assert (tasks_checked(file), problems_of(file)) == (["work"], [])


@all_relative
def test_check_follows_a_reference_from_a_path_with_a_folder(
    text: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a path is relative to the working directory."""
    folder = write({"dev.ini": text, "base.ini": complete_file("work")}).parent
    monkeypatch.chdir(folder.parent)
    file = Path(folder.name, "dev.ini")
    assert (tasks_checked(file), problems_of(file)) == (["work"], [])


@all_relative
def test_check_follows_a_reference_from_the_bare_name_of_a_file(
    text: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers accept the name of a file in the working directory, and so does `pulse check`."""
    monkeypatch.chdir(write({"dev.ini": text, "base.ini": complete_file("work")}).parent)
    assert (tasks_checked(Path("dev.ini")), problems_of(Path("dev.ini"))) == (["work"], [])


# One section, listed or built twice -------------------------------------------------------------

LISTED_TWICE = {
    "a pipeline within a pipeline": (
        ["work"],
        pipeline("one") + pipeline("config:base.ini#pulse", "site", name="one") + SITE,
    ),
    "an app that uses another": (
        ["work"],
        "\n[app:main]\nuse = config:base.ini\n\n[app:alias]\nuse = main\n",
    ),
    "a chain of filter-app": (
        ["inner", "outer"],
        section("outer", name="filter-app:main")
        + "next = second\n"
        + section("inner", name="filter-app:second")
        + "next = site\n"
        + SITE,
    ),
}
"""The tasks that a server runs, and a file with two sections that reference one middleware."""

all_listed_twice = pytest.mark.parametrize(
    ("tasks", "text"), LISTED_TWICE.values(), ids=LISTED_TWICE
)


@all_listed_twice
def test_paste_builds_one_middleware_for_two_references(
    tasks: list[str], text: str, write: Write, built: list[PulseMiddleware]
) -> None:
    """The main application contains each middleware once."""
    load(write({"site.ini": text, "base.ini": complete_file("work")}))
    assert tasks_of(built) == tasks


@all_listed_twice
def test_check_lists_a_middleware_once_for_two_references(
    tasks: list[str], text: str, write: Write
) -> None:
    """A task is not listed twice."""
    assert tasks_checked(write({"site.ini": text, "base.ini": complete_file("work")})) == tasks


BUILT_TWICE = {
    "one pipeline mounted twice": f"{COMPOSITE}/v1 = api\n/v2 = api\n"
    + pipeline("pulse", "site", name="api"),
    "one section in two pipelines": f"{COMPOSITE}/v1 = one\n/v2 = two\n"
    + pipeline("pulse", "site", name="one")
    + pipeline("pulse", "site", name="two"),
    "one section twice in a pipeline": pipeline("pulse", "pulse", "site"),
}
"""Main applications for which PasteDeploy builds one section twice."""

all_built_twice = pytest.mark.parametrize("text", BUILT_TWICE.values(), ids=BUILT_TWICE)


@all_built_twice
def test_paste_builds_a_section_for_each_reference(
    text: str, write: Write, built: list[PulseMiddleware]
) -> None:
    """Each mount has a middleware of its own, with the same settings."""
    load(write({"site.ini": text + section("work") + SITE}))
    assert tasks_of(built) == ["work", "work"]


@all_built_twice
def test_error_of_a_section_that_is_built_twice_names_the_section(
    text: str, write: Write, built: list[PulseMiddleware]
) -> None:
    """If the second middleware cannot start, the error explains that a section was built twice."""
    file = write({"site.ini": text + section("work") + SITE})
    load(file)
    first, second = built
    message = ""
    first.runtime.start()
    try:
        second.runtime.start()
    except PulseError as error:
        message = str(error).replace(str(file.parent), "")  # the folder has the name of this test
    finally:
        for app in built:
            app.runtime.shutdown(0)
    assert not message or "section" in message or "filter:pulse" in message


@all_built_twice
def test_check_reports_a_section_that_is_built_twice_or_lists_it_twice(
    text: str, write: Write
) -> None:
    """The check finds before the start of a server whether one section is built twice."""
    file = write({"site.ini": text + section("work") + SITE})
    assert problems_of(file) or tasks_checked(file) == ["work", "work"]


# Files of other kinds ---------------------------------------------------------------------------


def test_check_of_the_quickstart_example_reports_no_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of the documentation is valid."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    status = main(["check", "examples/quickstart/quickstart.ini"])
    assert (status, capsys.readouterr().err) == (0, "")


PERCENT = {
    "an action": ("pulse.task.work.action", "/caf%C3%A9"),
    "a header": ("pulse.task.work.headers", "X-Share: 50%"),
    "a body": ("pulse.task.work.body", '{"share": "50%"}'),
    "a context": ("pulse.config.context", "my%20site"),
    "a store": ("pulse.config.store", "postgresql://shop:p%40ss@db/shop"),
}
"""Values with a percent sign, which starts an interpolation in an ini file."""


@pytest.mark.parametrize("shared", [False, True], ids=["in the section", "in [DEFAULT]"])
@pytest.mark.parametrize(("key", "value"), PERCENT.values(), ids=PERCENT)
def test_check_names_the_key_of_a_value_with_a_percent_sign(
    key: str, value: str, *, shared: bool, write: Write
) -> None:
    """The problem names the key and the remedy `%%`."""
    head, line = "[filter:pulse]\nuse = egg:pulse\n", f"{key} = {value}\n"
    schedule = "pulse.task.work.interval = 5m\n"
    text = f"[DEFAULT]\n{line}{head}{schedule}" if shared else f"{head}{schedule}{line}"
    (problem,) = problems_of(write({"site.ini": text}))
    assert key in problem
    assert "%%" in problem


@pytest.mark.parametrize("name", ["app:main", "app:pulse"])
def test_check_reports_that_pulse_is_a_filter_and_no_app(name: str, write: Write) -> None:
    """PasteDeploy itself reports an entry point that does not exist."""
    (problem,) = problems_of(write({"site.ini": section("work", name=name)}))
    assert "filter" in problem


def test_server_reports_that_pulse_is_a_filter_and_no_app(write: Write) -> None:
    """The error names the required kind of section."""
    file = write({"site.ini": section("work", name="app:main")})
    with pytest.raises((LookupError, ConfigError)) as raised:
        load(file)
    assert "filter" in str(raised.value)


# Modules that are imported ----------------------------------------------------------------------

EAGER = """
from pulse import PulseMiddleware, Task

def respond(environ, start_response):
    start_response("200 OK", [])
    return []

app = PulseMiddleware(
    respond, store="memory:", start="eager", tasks={"own": Task(action="/own", interval="1h")}
)

def make_app(global_conf):
    return app
"""


def test_check_starts_no_middleware_of_a_module_that_it_imports(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command runs nothing, even if a module builds a middleware with `start = eager`."""
    main_app = "[app:main]\npaste.app_factory = eager_of_check:make_app\nfilter-with = pulse\n"
    file = write({"site.ini": main_app + section("work"), "eager_of_check.py": EAGER})
    monkeypatch.syspath_prepend(file.parent)
    assert (tasks_checked(file), problems_of(file)) == (["work"], [])
    imported = sys.modules["eager_of_check"].app
    with pytest.raises(NotServingError):
        imported.scheduler.tasks()


def mount_with_demands(loader: Any, global_conf: dict[str, str], **mounts: str) -> object:
    """Load the applications, and use what only a real one has."""
    apps = [loader.get_app(name, global_conf=global_conf) for name in mounts.values()]
    return [app.routes for app in apps]


def mount_by_demand(loader: Any, global_conf: dict[str, str], **mounts: str) -> object:
    """Use what only the loader of PasteDeploy has."""
    return [loader.app_context(name, global_conf).create() for name in mounts.values()].pop()


@pytest.mark.parametrize("factory", [mount_with_demands, mount_by_demand], ids=lambda f: f.__name__)
def test_applications_of_a_composite_that_needs_real_ones_are_found(
    factory: Callable, write: Write
) -> None:
    """Those that it has loaded until then, or else those that its settings name, are listed."""
    head = COMPOSITE.replace("make_mounts", factory.__name__)
    file = write({"site.ini": f"{head}/api = api\n" + complete_file("work").replace("main", "api")})
    assert (tasks_checked(file), problems_of(file)) == (["work"], [])


def mount_if_present(loader: Any, global_conf: dict[str, str], **mounts: str) -> object:
    """Load the applications that the file has."""
    for name in mounts.values():
        with suppress(LookupError):
            loader.get_app(name, global_conf=global_conf)
    return respond


def mount_or_explain(loader: Any, global_conf: dict[str, str], **mounts: str) -> object:
    """Load the applications, with an error of its own."""
    for name in mounts.values():
        try:
            loader.get_app(name, global_conf=global_conf)
        except LookupError as error:
            raise RuntimeError(name) from error
    return respond


def test_application_that_a_composite_can_do_without_is_no_problem(
    write: Write, built: list[PulseMiddleware]
) -> None:
    """PasteDeploy loads the file."""
    head = COMPOSITE.replace("make_mounts", mount_if_present.__name__)
    text = f"{head}/none = none\n/api = api\n" + complete_file("work").replace("main", "api")
    file = write({"site.ini": text})
    load(file)
    assert (tasks_of(built), tasks_checked(file), problems_of(file)) == (["work"], ["work"], [])


def test_error_of_a_composite_about_a_missing_application_is_a_problem(write: Write) -> None:
    """PasteDeploy does not load the file."""
    head = COMPOSITE.replace("make_mounts", mount_or_explain.__name__)
    text = f"{head}/api = api\n/none = none\n" + complete_file("work").replace("main", "api")
    (problem,) = problems_of(write({"site.ini": text}))
    assert problem == "[composite:main] cannot be read: RuntimeError: none"
