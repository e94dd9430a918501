"""The section of an ini file that child processes load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from paste.deploy import loadapp, loadfilter
from paste.deploy.loadwsgi import ConfigLoader

from pulse.config.layout import Layout
from pulse.errors import ConfigError
from pulse.middleware import PulseMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TASK = """
use = egg:pulse
pulse.config.mode = processing
pulse.config.start = off
pulse.task.cleanup.action = /cleanup
pulse.task.cleanup.interval = 300
"""
SITES = f"""
[app:site]
use = call:{__name__}:make_site
[app:other]
use = call:{__name__}:make_site
"""
ONE = f"""
[pipeline:shop]
pipeline = pulse site
[filter:pulse]
{TASK}{SITES}
"""
TWO = f"""
[pipeline:public]
pipeline = pulse site
[pipeline:administration]
pipeline = pulse other
[composite:main]
use = call:{__name__}:make_mounts
/ = public
[composite:admin]
use = call:{__name__}:make_mounts
/ = administration
/pages =
    site, other
[filter:pulse]
{TASK}{SITES}
"""


def make_site(_global_conf: dict[str, str], **_: str) -> Callable[..., object]:
    """Return an app, as the factory of a section."""
    return lambda *_: []


def make_mounts(loader: Any, global_conf: dict[str, str], **apps: str) -> Callable[..., object]:
    """Return the first application of a composite, as its factory."""
    names = " ".join(apps.values()).replace(",", " ").split()
    loaded = [loader.get_app(name, global_conf=global_conf) for name in names]
    return loaded[0]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes an ini file."""

    def write(text: str) -> Path:
        file = tmp_path / "site.ini"
        file.write_text(text)
        return file

    return write


def section_of(app: object) -> str:
    """Return the section that the child processes of a middleware load."""
    assert isinstance(app, PulseMiddleware)
    return app.runtime.settings.paste.section


# Learnt from the server's call -------------------------------------------------------------


@pytest.mark.parametrize("name", ["main", "admin", "public", "administration"])
def test_children_load_the_section_that_the_server_loaded(
    name: str, write: Callable[[str], Path]
) -> None:
    """One filter section serves several applications of the file."""
    assert section_of(loadapp(f"config:{write(TWO)}", name=name)) == name


@pytest.mark.parametrize(
    ("served", "chosen"), [("admin", "administration"), ("administration", "administration")]
)
def test_setting_may_name_a_part_of_the_served_application(
    served: str, chosen: str, write: Callable[[str], Path]
) -> None:
    """Child processes may need only a part of it."""
    text = TWO.replace(TASK, f"{TASK}pulse.config.application = {chosen}\n")
    assert section_of(loadapp(f"config:{write(text)}", name=served)) == chosen


@pytest.mark.parametrize(
    ("served", "chosen"), [("admin", "main"), ("admin", "public"), ("administration", "admin")]
)
def test_setting_may_not_name_an_application_that_is_not_served(
    served: str, chosen: str, write: Callable[[str], Path]
) -> None:
    """A run would call another application."""
    text = TWO.replace(TASK, f"{TASK}pulse.config.application = {chosen}\n")
    with pytest.raises(ConfigError) as caught:
        loadapp(f"config:{write(text)}", name=served)
    (problem,) = caught.value.problems
    assert problem == (
        f"pulse.config.application: expected '{served}', which is served, or a section that it is"
        f" made from, got '{chosen}'; leave the setting out, and child processes load what is"
        " served"
    )


# Learnt from the file ----------------------------------------------------------------------


def by_loader(file: Path, name: str) -> object:
    """Load an application by a call that no server makes."""
    return ConfigLoader(str(file)).get_app(name)


def by_filter(file: Path, _: str) -> object:
    """Apply the filter by hand."""
    return loadfilter(f"config:{file}", name="pulse")(print)


@pytest.mark.parametrize("load", [by_loader, by_filter])
def test_file_with_one_application_needs_no_setting(
    load: Callable[[Path, str], object], write: Callable[[str], Path]
) -> None:
    """The filter is applied in one section."""
    assert section_of(load(write(ONE), "shop")) == "shop"


@pytest.mark.parametrize("load", [by_loader, by_filter])
def test_file_with_several_applications_needs_the_setting(
    load: Callable[[Path, str], object], write: Callable[[str], Path]
) -> None:
    """The error names the applications."""
    file = write(TWO)
    with pytest.raises(ConfigError) as caught:
        load(file, "admin")
    (problem,) = caught.value.problems
    assert problem.startswith(
        f"pulse.config.application: expected the section of config:{file} that is served, or"
    )
    assert problem.endswith("should load: one of public, administration")


@pytest.mark.parametrize("load", [by_loader, by_filter])
def test_setting_determines_the_section(
    load: Callable[[Path, str], object], write: Callable[[str], Path]
) -> None:
    """The setting counts if the call of the server is unknown."""
    text = TWO.replace(TASK, f"{TASK}pulse.config.application = administration\n")
    assert section_of(load(write(text), "admin")) == "administration"


def test_filters_with_different_settings_are_distinguished(write: Callable[[str], Path]) -> None:
    """Each is applied in one section."""
    second = TASK.replace("/cleanup", "/sweep")
    text = ONE + f"[pipeline:admin]\npipeline = sweeping other\n[filter:sweeping]\n{second}"
    assert section_of(by_loader(write(text), "shop")) == "shop"
    assert section_of(by_loader(write(text), "admin")) == "admin"


def test_mode_without_child_processes_needs_no_section(write: Callable[[str], Path]) -> None:
    """Other modes do not load the application again."""
    text = TWO.replace("mode = processing", "mode = threading")
    assert section_of(by_loader(write(text), "admin")) == ""


def test_missing_file_needs_the_setting(write: Callable[[str], Path]) -> None:
    """The file may have been replaced after it was read."""
    file = write(ONE)
    loader = ConfigLoader(str(file))
    file.unlink()
    with pytest.raises(ConfigError, match="one that the file does not show"):
        loader.get_app("shop")


# The layout of a file ----------------------------------------------------------------------

LAYOUT = """
[composite:main]
use = egg:Paste#urlmap
/ = front
/api = api
[app:front]
use = whole
filter-with = outer
[pipeline:whole]
pipeline = outer%(missing)s pulse site
[filter-app: api]
use = pulse
next = site
[app:site]
paste.app_factory = x:y
mark = stray
[pipeline:stray]
pipeline = pulse site
[filter:pulse]
use = egg:pulse
[filter:outer]
use = egg:outer
[server:main]
use = egg:waitress
[app]
use = site
"""


@pytest.fixture
def layout(write: Callable[[str], Path]) -> Layout:
    """Return the layout of a file with every kind of reference."""
    return Layout(str(write(LAYOUT)), {"missing": ""})


def test_applications_of_every_kind_are_listed(layout: Layout) -> None:
    """A server or a filter is no application; a section without a name is `main`."""
    assert layout.applications() == ["main", "front", "whole", "api", "site", "stray"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("main", True),
        ("front", True),
        ("whole", True),
        ("api", True),
        ("site", True),
        ("stray", False),
        ("pulse", False),
        ("none", False),
    ],
)
def test_references_are_followed(name: str, *, expected: bool, layout: Layout) -> None:
    """Composites, pipelines, filter-apps and `use` refer to sections; other values do not."""
    assert layout.leads_to(["main"], name) is expected


def test_sections_that_apply_a_filter_are_found(layout: Layout) -> None:
    """A pipeline and a filter-app apply a filter; sections that refer to them do not."""
    assert layout.referring_to(["filter:pulse"]) == ["whole", "api", "stray"]
    assert layout.referring_to(["filter:outer"]) == ["front", "whole"]
    assert layout.referring_to(["filter-app: api"]) == ["api"]


def test_unknown_variable_is_ignored(write: Callable[[str], Path]) -> None:
    """The server may define it."""
    layout = Layout(str(write(LAYOUT)), {})
    assert layout.leads_to(["front"], "whole")
    assert not layout.leads_to(["whole"], "site")
