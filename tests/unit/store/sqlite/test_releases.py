"""Releases of one site, in the layouts of deployment tools, are one origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.store.sqlite.location import file_name
from pulse.store.sqlite.releases import without_release

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    ("6", "7"),
    ("20261128120000", "20261129120000"),
    ("20261128120000Z", "20261129120000Z"),
    ("160323-164333", "160323-164537"),
    ("2026-11-28-12-00-00", "2026-11-29-12-00-00"),
    ("v1.9.0", "v1.10.0-rc1"),
    ("9fceb02d0ae598e95dc970b74767f19372d61af8", "d6cd1e2bd19e03a81132a23b2025920577f84e37"),
    ("9fceb02", "d6cd1e2"),
]
"""Names of releases: Deployer, Capistrano, Ansistrano, Fabric, by hand, tags and commits."""


def release(site: Path, name: str, *, folder: str = "releases", link: str = "current") -> str:
    """Return the path of an ini file in a release, which is in use if there is a link."""
    target = site / folder / name
    target.mkdir(parents=True)
    (target / "app.ini").touch()
    if link:
        (site / link).unlink(missing_ok=True)
        (site / link).symlink_to(target)
    return str(target / "app.ini")


@pytest.mark.parametrize("names", NAMES, ids=str)
@pytest.mark.parametrize("link", ["current", ""], ids=["link", "no link"])
def test_releases_of_a_site_have_one_file(
    tmp_path: Path, names: tuple[str, str], link: str
) -> None:
    """The working directory is a real path, so the link may not be seen, or not be there yet."""
    one, other = (release(tmp_path, name, link=link) for name in names)
    assert file_name(None, one) == file_name(None, other)


def test_link_that_is_made_after_the_start_changes_nothing(tmp_path: Path) -> None:
    """Some tools start the new release before they change the link."""
    path = release(tmp_path, "7", link="")
    before = file_name(None, path)
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "7")
    through_link = file_name(None, str(tmp_path / "current" / "app.ini"))
    assert before == file_name(None, path) == through_link


def test_file_is_named_by_the_path_of_the_link(tmp_path: Path) -> None:
    """The name is that of the site, not of a release."""
    path = release(tmp_path / "shop", "20261129120000")
    assert file_name(None, path).startswith("current-app-")
    assert file_name(None, str(tmp_path / "shop/releases/20261129120000")).startswith("shop-curre")


@pytest.mark.parametrize("folder", ["versions", "builds", "deploys", "Releases"])
def test_other_folders_hold_releases_too(tmp_path: Path, folder: str) -> None:
    """Their name says so."""
    one, other = (release(tmp_path, name, folder=folder) for name in ("1.0", "1.1"))
    assert file_name(None, one) == file_name(None, other)


@pytest.mark.parametrize("outer", ["versions/2", "releases/5"])
def test_releases_within_a_release_have_one_file(tmp_path: Path, outer: str) -> None:
    """A machine that is itself deployed by versions holds a site with releases."""
    one, other = (release(tmp_path / outer / "site", name, link="") for name in ("7", "8"))
    assert file_name(None, one) == file_name(None, other)


def test_names_of_releases_are_free_if_a_link_leads_to_one(tmp_path: Path) -> None:
    """Then the folder is one of releases, whatever their names are."""
    one, other = (release(tmp_path, name) for name in ("blue", "green"))
    assert file_name(None, one) == file_name(None, other)


def test_releases_beside_the_link_have_one_file(tmp_path: Path) -> None:
    """A folder with a version in its name is a release if `current` leads to one beside it."""
    one, other = (release(tmp_path, name, folder="") for name in ("1.0", "1.1"))
    assert file_name(None, one) == file_name(None, other)


def test_config_map_has_one_file(tmp_path: Path) -> None:
    """Kubernetes makes a new folder at each change of the ConfigMap."""
    files = []
    (tmp_path / "app.ini").symlink_to("..data/app.ini")
    for name in ("..2026_11_28_12_00_00.123456789", "..2026_11_29_12_00_00.987654321"):
        release(tmp_path, name, folder="", link="..data")
        files.append(file_name(None, str(tmp_path / "app.ini")))
    assert files[0] == files[1]


def test_files_of_one_release_stay_apart(tmp_path: Path) -> None:
    """Two ini files are two applications."""
    path = release(tmp_path, "7")
    other = path.replace("app.ini", "other.ini")
    assert file_name(None, path) != file_name(None, other)


def test_sites_stay_apart(tmp_path: Path) -> None:
    """Each has its own folder of releases."""
    one, other = (release(tmp_path / site, "7") for site in ("shop", "blog"))
    assert file_name(None, one) != file_name(None, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("releases/shop", "releases/blog"),
        ("shop/1", "blog/1"),
        ("app1", "app2"),
        ("2025", "2026"),
        ("1.0/app", "1.1/app"),
        ("versions/v1", "versions/v2"),
        ("builds/2024-shop", "builds/2025-blog"),
        ("releases/1.example.com", "releases/2.example.org"),
    ],
)
def test_applications_in_other_folders_stay_apart(tmp_path: Path, one: str, other: str) -> None:
    """Nothing says that these are releases of one site."""
    files = []
    for path in (one, other):
        (tmp_path / path).mkdir(parents=True)
        files.append(file_name(None, str(tmp_path / path)))
    assert files[0] != files[1]


def test_link_of_a_developer_joins_no_projects(tmp_path: Path) -> None:
    """`current` may lead to the project of the day; their names are no versions."""
    for name in ("shop", "blog"):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "shop")
    one, other = (file_name(None, str(tmp_path / name)) for name in ("shop", "blog"))
    assert one != other


PARTS = st.sampled_from(["srv", "releases", "current", "7", "v1.2", "shop", "app.ini", "..data"])


@given(parts=st.lists(PARTS, max_size=6))
def test_replaced_path_is_stable(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    """A path without releases stays as it is, and no path is replaced twice."""
    path = tmp_path_factory.getbasetemp().joinpath("nothing", *parts)
    once = without_release(path)
    assert without_release(once) == once or "releases" in once.parts
    if "releases" not in parts:
        assert once == path
