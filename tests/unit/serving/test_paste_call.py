"""The call of PasteDeploy that a filter's factory finds on the call stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from paste.deploy import loadapp, loadfilter
from paste.deploy.loadwsgi import ConfigLoader

from pulse.config.settings import PasteCall
from pulse.serving import paste_call
from pulse.serving.paste_call import find_call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    App = Callable[..., object]

INI = f"""
[DEFAULT]
colour = red
[pipeline:main]
pipeline = find site
[pipeline:admin]
pipeline = find other
[filter-app:wrapped]
use = find
next = site
[app:within]
use = site
filter-with = find
[app:alias]
use = admin
[app:elsewhere]
use = config:other.ini#inner
[composite:mounts]
use = call:{__name__}:make_mounts
apps = admin
[composite:outer]
use = call:{__name__}:make_mounts
apps = mounts
[app:nested]
use = call:{__name__}:make_nested
[filter:find]
use = call:{__name__}:make_filter
[app:site]
use = call:{__name__}:make_site
[app:other]
use = call:{__name__}:make_site
"""
OTHER = f"""
[pipeline:inner]
pipeline = find site
[filter:find]
use = call:{__name__}:make_filter
[app:site]
use = call:{__name__}:make_site
"""

seen: list[PasteCall | None] = []


def make_site(_global_conf: dict[str, str], **_: str) -> App:
    """Return an app, as a paste app factory."""
    return lambda *_: []


def make_filter(_global_conf: dict[str, str]) -> Callable[[App], App]:
    """Record the call that is found, as a paste filter factory."""

    def wrap(app: App) -> App:
        seen.append(find_call())
        return app

    return wrap


def make_mounts(loader: Any, global_conf: dict[str, str], apps: str) -> App:
    """Load several applications, as a paste composite factory."""
    loaded = [loader.get_app(name, global_conf=global_conf) for name in apps.split()]
    return loaded[0]


def make_nested(global_conf: dict[str, str]) -> App:
    """Load the application of another file, as a paste app factory."""
    return loadapp("config:other.ini", "inner", relative_to=global_conf["here"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of an ini file, and clear the record."""
    seen.clear()
    (tmp_path / "other.ini").write_text(OTHER)
    path = tmp_path / "site.ini"
    path.write_text(INI)
    return path


@pytest.mark.parametrize(
    ("section", "within"),
    [
        ("main", ("main",)),
        ("admin", ("admin",)),
        ("wrapped", ("wrapped",)),
        ("within", ("within",)),
        ("alias", ("alias",)),
        ("elsewhere", ("elsewhere",)),
        ("mounts", ("mounts", "admin")),
        ("outer", ("outer", "mounts", "admin")),
        ("nested", ("nested",)),
    ],
)
def test_the_call_names_the_section_that_is_loaded(
    section: str, within: tuple[str, ...], file: Path
) -> None:
    """It also lists the applications through which the filter was reached."""
    loadapp(f"config:{file}", name=section, global_conf={"debug": "true"})

    assert seen == [
        PasteCall(
            uri=f"config:{file}",
            section=section,
            relative_to="",
            global_conf={"debug": "true"},
            within=within,
        )
    ]


@pytest.mark.parametrize(
    ("uri", "name", "section"),
    [
        ("config:site.ini", None, "main"),
        ("config:site.ini#admin", None, "admin"),
        ("config:site.ini#main", "admin", "admin"),
    ],
    ids=["neither", "fragment", "both"],
)
def test_a_fragment_names_the_section_as_paste_deploy_reads_it(
    uri: str, name: str | None, section: str, file: Path
) -> None:
    """An example is `gunicorn --paste site.ini#admin`; the folder of a relative file is kept."""
    loadapp(uri, name=name, relative_to=str(file.parent))

    (call,) = seen
    assert call is not None
    assert (call.uri, call.section) == ("config:site.ini", section)
    assert call.relative_to == str(file.parent)


def test_variables_that_are_not_text_are_omitted(file: Path) -> None:
    """They cannot be sent to a child process."""
    loadapp(f"config:{file}", global_conf={"a": "1", "b": "2"})
    (first,) = seen
    assert paste_call._texts({"a": "1", "b": None, 3: "4"}) == {"a": "1"}
    assert first is not None
    assert first.global_conf == {"a": "1", "b": "2"}


@pytest.mark.parametrize("way", ["filter", "loader"])
def test_without_a_call_that_loads_an_application_nothing_is_found(way: str, file: Path) -> None:
    """Examples are a filter or a loader that the site calls itself."""
    if way == "filter":
        loadfilter(f"config:{file}", name="find")(print)
    else:
        ConfigLoader(str(file)).get_app("main")

    assert seen == [None]


def test_a_changed_paste_deploy_shows_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the file or the setting `application` is used."""
    monkeypatch.setattr(paste_call, "_read", lambda *_: {}["uri"])
    loadapp(f"config:{file}")

    assert seen == [None]
