"""The path of the default store's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulse.store.folders import is_usable, network_file_system, own_folder
from pulse.store.sqlite import location
from pulse.store.sqlite.location import default_path, file_name

MOUNTS = r"""
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//nas/x /mnt/my\040share cifs rw 0 0
tmpfs /home/local/tmp tmpfs rw 0 0
""".strip()


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """Return a file with a table of mounts."""
    path = tmp_path / "mounts"
    path.write_text(MOUNTS)
    return path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the state directory of this user; /var/tmp is replaced by a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(location, "own_folder", lambda _: tmp_path / "own")
    return tmp_path / "state"


def test_file_is_in_the_state_directory(state: Path) -> None:
    """The folder is private to this user."""
    path = default_path("shop", "/srv/shop.ini")
    assert path is not None
    assert path.parent == state / "pulse"
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_file_is_in_a_private_folder_if_the_state_directory_is_not_writable(
    state: Path, tmp_path: Path
) -> None:
    """A file in the place of the state directory makes it unusable."""
    state.touch()
    path = default_path("shop", "/srv/shop.ini")
    assert path is not None
    assert path.parent == tmp_path / "own"


def test_without_a_writable_folder_there_is_no_file(state: Path, tmp_path: Path) -> None:
    """Then each process has a store of its own."""
    state.touch()
    (tmp_path / "own").touch()
    assert default_path("shop", "/srv/shop.ini") is None


def test_private_folder_has_the_number_of_its_user() -> None:
    """Each user of the host has another folder."""
    assert own_folder(Path("/var/tmp")).name.startswith("pulse-")


def test_name_determines_the_file_whatever_the_origin_is() -> None:
    """The ini file in which the name is set has no effect."""
    assert file_name("Shop 1", "/a.ini") == file_name("Shop 1", "/b.ini")
    assert file_name("Shop 1", "/a.ini").startswith("shop-1-")


def test_each_origin_has_its_own_file(tmp_path: Path) -> None:
    """Ini files with the same name in two folders are two applications."""
    one, other = (file_name(None, str(tmp_path / part / "app.ini")) for part in "ab")
    assert (one[:6], other[:6]) == ("a-app-", "b-app-")


def test_root_directory_as_origin_has_a_file() -> None:
    """A process in a container often has the working directory `/`."""
    assert file_name(None, "/") == "pulse-9ec22578.db"


def test_link_to_the_ini_file_is_the_same_origin(tmp_path: Path) -> None:
    """The real path counts."""
    (tmp_path / "app.ini").touch()
    (tmp_path / "link.ini").symlink_to(tmp_path / "app.ini")
    assert file_name(None, str(tmp_path / "link.ini")) == file_name(None, str(tmp_path / "app.ini"))


def test_folder_that_others_can_write_is_unusable(tmp_path: Path) -> None:
    """Another user could replace the file."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    assert not is_usable(folder)


def test_link_to_a_folder_is_unusable(tmp_path: Path) -> None:
    """Another user may own its target."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert not is_usable(tmp_path / "link")


def test_folder_of_another_user_is_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner can read and replace the files in it."""
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
def test_nearest_mount_determines_the_file_system(mounts: Path, path: str, kind: str) -> None:
    """Only network file systems are returned."""
    assert network_file_system(Path(path), mounts=mounts) == kind


def test_without_a_table_of_mounts_no_file_system_is_known(tmp_path: Path) -> None:
    """Other systems have no such table."""
    assert network_file_system(tmp_path, mounts=tmp_path / "none") == ""
