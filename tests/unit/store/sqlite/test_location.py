"""Where the default store's file lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulse.store.sqlite import location
from pulse.store.sqlite.location import (
    default_path,
    file_name,
    is_usable,
    network_file_system,
    own_folder,
)

MOUNTS = r"""
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//nas/x /mnt/my\040share cifs rw 0 0
tmpfs /home/local/tmp tmpfs rw 0 0
""".strip()


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """Return a table of mounts."""
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return this user's state directory, and keep /var/tmp out of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(location, "own_folder", lambda _: tmp_path / "own")
    return tmp_path / "state"


def test_the_file_is_in_the_state_directory(state: Path) -> None:
    """Its folder is made for this user alone."""
    path = default_path("shop", "/srv/shop.ini")
    assert path is not None
    assert path.parent == state / "pulse"
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_where_that_cannot_be_written_it_is_in_a_folder_of_its_own(
    state: Path, tmp_path: Path
) -> None:
    """A state directory that is in the way of a file will not do."""
    state.touch()
    path = default_path("shop", "/srv/shop.ini")
    assert path is not None
    assert path.parent == tmp_path / "own"


def test_where_neither_can_be_written_there_is_none(state: Path, tmp_path: Path) -> None:
    """Then each process ticks by itself."""
    state.touch()
    (tmp_path / "own").touch()
    assert default_path("shop", "/srv/shop.ini") is None


def test_the_own_folder_names_its_user() -> None:
    """Each user of the host has another."""
    assert own_folder(Path("/var/tmp")).name.startswith("pulse-")


def test_a_name_makes_the_same_file_from_everywhere() -> None:
    """`pulse.config.name` decides, whichever ini file it stands in."""
    assert file_name("Shop 1", "/a.ini") == file_name("Shop 1", "/b.ini")
    assert file_name("Shop 1", "/a.ini").startswith("shop-1-")


def test_origins_have_files_of_their_own(tmp_path: Path) -> None:
    """Ini files of the same name in two folders are two applications."""
    one, other = (file_name(None, str(tmp_path / part / "app.ini")) for part in "ab")
    assert (one[:6], other[:6]) == ("a-app-", "b-app-")


def test_root_directory_as_origin_has_a_file() -> None:
    """A process in a container often has the working directory `/`."""
    assert file_name(None, "/") == "pulse-9ec22578.db"


def test_a_link_to_the_ini_file_is_the_same_origin(tmp_path: Path) -> None:
    """The real path counts."""
    (tmp_path / "app.ini").touch()
    (tmp_path / "link.ini").symlink_to(tmp_path / "app.ini")
    assert file_name(None, str(tmp_path / "link.ini")) == file_name(None, str(tmp_path / "app.ini"))


def test_a_folder_that_others_write_to_will_not_do(tmp_path: Path) -> None:
    """Somebody could put another file in its place."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    assert not is_usable(folder)


def test_a_link_will_not_do(tmp_path: Path) -> None:
    """Somebody else may own what it points to."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert not is_usable(tmp_path / "link")


def test_a_folder_of_another_user_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it first reads and replaces what is in it."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: folder.stat().st_uid + 1)
    assert not is_usable(folder)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/pulse.db", ""),
        ("/home/me/pulse.db", "nfs4"),
        ("/home/local/pulse.db", ""),
        ("/home/local/tmp/pulse.db", ""),
        ("/homes/pulse.db", ""),
        ("/mnt/my share/pulse.db", "cifs"),
    ],
)
def test_the_nearest_mount_tells_the_file_system(mounts: Path, path: str, kind: str) -> None:
    """Only kinds that are on a network are told."""
    assert network_file_system(Path(path), mounts=mounts) == kind


def test_without_a_table_of_mounts_nothing_is_told(tmp_path: Path) -> None:
    """Other systems have none."""
    assert network_file_system(tmp_path, mounts=tmp_path / "none") == ""
