"""What PasteDeploy was asked for, as a filter's factory finds it on the stack."""

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
    """Be the factory of an app."""
    return lambda *_: []


def make_filter(_global_conf: dict[str, str]) -> Callable[[App], App]:
    """Be the factory of a filter that notes what it finds."""

    def wrap(app: App) -> App:
        seen.append(find_call())
        return app

    return wrap


def make_mounts(loader: Any, global_conf: dict[str, str], apps: str) -> App:
    """Be the factory of a composite that asks for its applications itself."""
    loaded = [loader.get_app(name, global_conf=global_conf) for name in apps.split()]
    return loaded[0]


def make_nested(global_conf: dict[str, str]) -> App:
    """Be the factory of an app that loads another file's."""
    return loadapp("config:other.ini", "inner", relative_to=global_conf["here"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of an ini file; nothing has been noted yet."""
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
    """However the filter is applied in it, and the applications that led to it."""
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
    """As in `gunicorn --paste site.ini#admin`; a relative file has the folder it counts from."""
    loadapp(uri, name=name, relative_to=str(file.parent))

    (call,) = seen
    assert call is not None
    assert (call.uri, call.section) == ("config:site.ini", section)
    assert call.relative_to == str(file.parent)


def test_variables_that_are_no_text_are_left_out(file: Path) -> None:
    """A child could not be told of them."""
    loadapp(f"config:{file}", global_conf={"a": "1", "b": "2"})
    (first,) = seen
    assert paste_call._texts({"a": "1", "b": None, 3: "4"}) == {"a": "1"}
    assert first is not None
    assert first.global_conf == {"a": "1", "b": "2"}


@pytest.mark.parametrize("way", ["filter", "loader"])
def test_outside_of_a_call_for_an_application_nothing_is_found(way: str, file: Path) -> None:
    """A filter that is applied by hand, a loader that is used by hand."""
    if way == "filter":
        loadfilter(f"config:{file}", name="find")(print)
    else:
        ConfigLoader(str(file)).get_app("main")

    assert seen == [None]


def test_a_paste_deploy_that_has_changed_shows_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the file, or the setting, has to say it."""
    monkeypatch.setattr(paste_call, "_read", lambda *_: {}["uri"])
    loadapp(f"config:{file}")

    assert seen == [None]
