"""uWSGI's workers, masters and mules, with a module in uWSGI's place."""

from __future__ import annotations

import importlib
import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pulse.serving.uwsgi import UwsgiMaster, UwsgiWorker, find
from tests.support.member import RecordingMember

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Uwsgi(SimpleNamespace):
    """The module that uWSGI puts into its processes."""

    def __init__(self, worker: int = 0, mule: int = 0, **opt: object) -> None:
        super().__init__(worker=worker, mule=mule)
        self.opt = {name.replace("_", "-"): value for name, value in opt.items()}

    def worker_id(self) -> int:
        """Return the worker's number."""
        return self.worker

    def mule_id(self) -> int:
        """Return the mule's number."""
        return self.mule


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Uwsgi], Uwsgi]:
    """Return what puts a module in uWSGI's place."""

    def put(uwsgi: Uwsgi) -> Uwsgi:
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        return uwsgi

    return put


def test_elsewhere_there_is_no_place() -> None:
    """A process that uWSGI does not run has no place in it."""
    assert find() is None


def test_a_lazy_worker_begins_and_serves_once_loaded(
    install: Callable[[Uwsgi], Uwsgi],
    member: RecordingMember,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With lazy-apps the worker builds the application: it begins, and does not serve yet."""
    install(Uwsgi(worker=1))
    (tmp_path / "lazily_loaded.py").write_text(
        "from pulse.serving.uwsgi import find\nplace = find()\nwas_serving = place.serving()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = importlib.import_module("lazily_loaded")

    loaded.place.enter(member)

    assert member.told == ["belong", "enter"]
    assert (loaded.was_serving, member.host.serving()) == (False, True)


def test_a_master_begins_its_workers(
    install: Callable[[Uwsgi], Uwsgi], member: RecordingMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook after a fork begins a worker anew, after the user's own hook."""
    own: list[str] = []
    uwsgi = install(Uwsgi())
    uwsgi.post_fork_hook = lambda: own.append("own")
    find().enter(member)
    uwsgi.worker = 2
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)

    uwsgi.post_fork_hook()

    assert (own, member.told) == (["own"], ["forked", "belong", "enter"])
    assert member.host.serving() is True


def test_a_process_that_becomes_the_only_worker_keeps_its_state(
    install: Callable[[Uwsgi], Uwsgi], member: RecordingMember
) -> None:
    """Without a master the hook runs in the same process, where nothing is forgotten."""
    uwsgi = install(Uwsgi())
    find().enter(member)
    uwsgi.worker = 1

    uwsgi.post_fork_hook()

    assert member.told == ["belong", "enter"]


@pytest.mark.parametrize("mule", [0, 1], ids=["spooler", "mule"])
def test_other_children_do_not_begin(
    mule: int, install: Callable[[Uwsgi], Uwsgi], member: RecordingMember
) -> None:
    """Mules and the spooler run the same hook and begin nothing."""
    uwsgi = install(Uwsgi())
    find().enter(member)
    uwsgi.mule = mule

    uwsgi.post_fork_hook()

    assert member.told == []


def test_a_mule_that_builds_the_application_has_no_place(
    install: Callable[[Uwsgi], Uwsgi],
) -> None:
    """A mule may load the application for itself."""
    install(Uwsgi(mule=1))

    assert find() is None


def test_a_dropped_member_is_not_begun(install: Callable[[Uwsgi], Uwsgi]) -> None:
    """The hook keeps nobody alive."""
    uwsgi = install(Uwsgi())
    find().enter(RecordingMember())
    uwsgi.worker = 1

    uwsgi.post_fork_hook()

    assert isinstance(find(), UwsgiWorker)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 60.0),
        ({"worker_reload_mercy": b"7"}, 7.0),
        ({"worker_reload_mercy": b"70", "reload_mercy": b"8"}, 8.0),
        ({"reload_mercy": True}, 60.0),
    ],
)
def test_the_limit_is_uwsgis_mercy(options: dict[str, object], limit: float) -> None:
    """A worker that is told to stop is killed after the least mercy that is set."""
    assert UwsgiWorker(Uwsgi(worker=1, **options)).limit_s() == limit


def test_a_master_is_found(install: Callable[[Uwsgi], Uwsgi]) -> None:
    """Worker number 0 that is no mule is the master."""
    install(Uwsgi())

    assert isinstance(find(), UwsgiMaster)
