"""The mark by which one process of a host looks at the store for all."""

from __future__ import annotations

import heapq
import random
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.scheduler.host_look import (
    EARLIEST_TAKEOVER,
    LATEST_TAKEOVER,
    PERIOD,
    HostLook,
    LookMark,
    open_host_look,
    period_of,
    stale_at,
)
from pulse.scheduler.poll_delay import NO_WORK
from pulse.store.lease_watch import Observations
from pulse.store.process_identity import this_member
from pulse.store.steering import MemberReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pulse.store.base import Member

START = 1_000 * SECOND
LEASE = 30 * SECOND


def member(pid: int) -> Member:
    """Return a process of this machine with another process id."""
    import msgspec

    one = this_member("threading", "digest", LEASE)
    return msgspec.structs.replace(one, pid=pid, holder=f"host:{pid}:nonce")


@pytest.fixture
def process(tmp_path: Path) -> Callable[[int], HostLook]:
    """Return a function that makes processes which share the mark of a folder."""
    return lambda pid: HostLook(tmp_path, member(pid), dice=random.Random(pid).random)  # noqa: S311 - repeatable


def looks_of(
    tmp_path: Path, count: int, *, seconds: int, deaths: dict[int, int] | None = None
) -> list[tuple[int, int]]:
    """Return when which process looks; the one that looked last dies at each instant of *deaths*.

    The values of *deaths* are how many further processes die with it.
    """
    dice = random.Random(count)  # noqa: S311 - repeatable
    alive = {pid: HostLook(tmp_path, member(pid), dice=dice.random) for pid in range(1, count + 1)}
    turns = [(START + dice.randrange(PERIOD), pid) for pid in alive]
    heapq.heapify(turns)
    looks: list[tuple[int, int]] = []
    ends = sorted((deaths or {}).items())
    while turns and turns[0][0] < START + seconds * SECOND:
        now, pid = heapq.heappop(turns)
        while ends and ends[0][0] <= now:
            _, others = ends.pop(0)
            for dead in [looks[-1][1], *[one for one in alive if one != looks[-1][1]][:others]]:
                alive.pop(dead, None)
        if pid not in alive:
            continue
        pause = alive[pid].sleep(now)
        if not pause:
            looks.append((now, pid))
            alive[pid].looked(now, NO_WORK)
            pause = alive[pid].period
        heapq.heappush(turns, (now + pause, pid))
    return looks


# Who looks -------------------------------------------------------------------------------------


def test_process_without_a_mark_looks(process: Callable[[int], HostLook]) -> None:
    """It is the first one."""
    assert process(1).sleep(START) == 0


def test_process_that_has_looked_looks_again(process: Callable[[int], HostLook]) -> None:
    """Its own mark keeps it from nothing."""
    one = process(1)
    one.looked(START, NO_WORK)
    assert one.sleep(START + PERIOD) == 0


def test_another_process_sleeps_until_the_mark_is_stale(
    process: Callable[[int], HostLook],
) -> None:
    """It sleeps until 1.06 to 1.11 periods after the look."""
    process(1).looked(START, NO_WORK)
    other = process(2)
    pause = other.sleep(START + 1)
    assert 1.06 * PERIOD - 1 <= pause <= 1.11 * PERIOD
    assert other.sleep(START + 1 + pause) == 0


def test_sleep_ends_shortly_after_the_next_work(process: Callable[[int], HostLook]) -> None:
    """By then the mark shows whether the process that looks has looked."""
    process(1).looked(START, 100_000)
    pause = process(2).sleep(START)
    assert 100_000 + EARLIEST_TAKEOVER <= pause <= 100_000 + LATEST_TAKEOVER


def test_sleep_goes_on_if_the_work_was_looked_at(process: Callable[[int], HostLook]) -> None:
    """The store is not asked."""
    one, other = process(1), process(2)
    one.looked(START, 100_000)
    pause = other.sleep(START)
    one.looked(START + 100_000, NO_WORK)
    assert other.sleep(START + pause) > 0


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 31, b"\xff" * 32, struct.pack("<4q", START + SECOND, 1, PERIOD, 0)],
    ids=["empty", "short", "garbage", "of the future"],
)
def test_process_looks_if_the_mark_cannot_be_used(
    tmp_path: Path, process: Callable[[int], HostLook], content: bytes
) -> None:
    """A program may write anything into it."""
    (tmp_path / "mark").write_bytes(content)
    assert process(2).sleep(START) == 0


def test_processes_look_by_themselves_if_the_folder_was_deleted(tmp_path: Path) -> None:
    """The mark can be neither read nor written."""
    one, other = (HostLook(tmp_path / "gone", member(pid)) for pid in (1, 2))
    one.looked(START, NO_WORK)
    assert other.sleep(START) == 0


def test_process_looks_if_its_slot_cannot_be_written(tmp_path: Path) -> None:
    """Nobody would keep it alive."""
    HostLook(tmp_path, member(1)).looked(START, NO_WORK)
    (tmp_path / "2.slot").mkdir()
    assert HostLook(tmp_path, member(2)).sleep(START) == 0


# How often -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4, 24, 100])
def test_host_looks_each_period_whatever_its_processes(tmp_path: Path, count: int) -> None:
    """Beyond the first second, in which each process looks once at most."""
    looks = [at for at, _ in looks_of(tmp_path, count, seconds=30) if at > START + SECOND]
    assert 33 <= len(looks) <= 35
    assert max(b - a for a, b in pairwise(looks)) <= SECOND


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("count", [4, 24, 100])
def test_next_look_comes_within_a_second_of_the_death_of_the_process_that_looks(
    tmp_path: Path, count: int, others: int
) -> None:
    """Also if another process dies with it."""
    deaths = {START + number * SECOND + number * 37_000: others for number in range(2, count, 3)}
    looks = looks_of(
        tmp_path, count, seconds=count + 2, deaths=dict(list(deaths.items())[: count // 3])
    )
    assert max(b - a for (a, _), (b, _) in pairwise(looks)) <= SECOND


@pytest.mark.parametrize(("hosts", "period"), [(1, PERIOD), (17, PERIOD), (50, 2_500_000)])
def test_large_fleet_looks_twenty_times_a_second(hosts: int, period: int) -> None:
    """The period grows with the hosts."""
    assert period_of(hosts) == period


@given(
    st.integers(0, 2**50),
    st.integers(PERIOD, 60 * SECOND),
    st.none() | st.integers(0, 120 * SECOND),
    st.floats(0, 1),
)
def test_mark_is_stale_after_the_next_look_and_before_two_periods(
    at: int, period: int, until_work: int | None, roll: float
) -> None:
    """Whatever the period, the next work and the dice."""
    mark = LookMark(at, 1, period, 0 if until_work is None else at + until_work)
    stale = stale_at(mark, lambda: roll)
    assert at < stale <= at + 2 * period
    if until_work is not None:
        assert stale <= at + until_work + LATEST_TAKEOVER or not mark.next_work


# Keeping alive ---------------------------------------------------------------------------------


def test_processes_that_sleep_are_kept_alive_every_third_of_a_lease(
    process: Callable[[int], HostLook],
) -> None:
    """Those that look send heartbeats themselves."""
    one, other = process(1), process(2)
    other.report = lambda: MemberReport(used=2)
    one.looked(START, NO_WORK)
    other.sleep(START)
    assert one.to_keep_alive(START) == {"host:2:nonce": MemberReport(used=2)}
    assert one.to_keep_alive(START + LEASE // 3 - 1) == {}
    other.sleep(START + 1)
    one.looked(START + LEASE // 3, NO_WORK)
    other.sleep(START + LEASE // 3)
    assert [*one.to_keep_alive(START + LEASE // 3)] == ["host:2:nonce"]


def test_slot_without_a_report_is_one_of_a_living_process(
    process: Callable[[int], HostLook],
) -> None:
    """Whatever follows the name of the process."""
    one, other = process(1), process(2)
    one.looked(START, NO_WORK)
    other.sleep(START)
    slot = other._slot
    slot.write_bytes(slot.read_bytes().partition(b"\n")[0] + b"\nno report")
    assert one.to_keep_alive(START) == {"host:2:nonce": None}


def test_process_that_is_stopped_is_not_kept_alive(process: Callable[[int], HostLook]) -> None:
    """It writes its slot no more."""
    one, other = process(1), process(2)
    one.looked(START, NO_WORK)
    other.sleep(START)
    assert one.to_keep_alive(START + LEASE) == {}


def test_process_that_ends_is_not_kept_alive(process: Callable[[int], HostLook]) -> None:
    """It removes its slot."""
    one, other = process(1), process(2)
    one.looked(START, NO_WORK)
    other.sleep(START)
    other.close()
    assert one.to_keep_alive(START) == {}


def test_process_that_is_called_looks_once(process: Callable[[int], HostLook]) -> None:
    """Such as one that the store has forgotten."""
    one, other = process(1), process(2)
    one.looked(START, NO_WORK)
    other.sleep(START)
    one.call(one.to_keep_alive(START))
    one.looked(START + SECOND, NO_WORK)
    assert other.sleep(START + SECOND) == 0
    assert other.sleep(START + SECOND + 1) > 0


# Observations ----------------------------------------------------------------------------------


def test_observations_are_left_to_the_next_process(process: Callable[[int], HostLook]) -> None:
    """As they were written last."""
    one, other = process(1), process(2)
    assert other.observations() is None
    one.leave_observations(Observations(START, {"run": (7, START - 5)}))
    assert other.observations() == Observations(START, {"run": (7, START - 5)})
    one.leave_observations(Observations(START + 1, {}))
    assert other.observations() == Observations(START + 1, {})


def test_there_are_no_observations_after_a_failed_look(
    tmp_path: Path, process: Callable[[int], HostLook]
) -> None:
    """Nor if the file holds something else."""
    one, other = process(1), process(2)
    one.leave_observations(Observations(START, {"run": (7, START)}))
    one.forget_observations()
    assert other.observations() is None
    (tmp_path / "leases").write_text("{}")
    assert other.observations() is None


# The folder ------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands for /dev/shm."""
    monkeypatch.setattr("pulse.scheduler.host_look._SHARED", tmp_path)
    return tmp_path


def test_processes_share_a_mark_only_if_each_can_run_the_tasks_of_the_others(shared: Path) -> None:
    """Another store, name, configuration or PID namespace has another mark."""
    import msgspec

    one = member(1)
    assert open_host_look(one, store="sqlite:///a", name="")
    assert open_host_look(member(2), store="sqlite:///a", name="")
    assert len(list(shared.glob("pulse-*/*"))) == 1
    open_host_look(one, store="sqlite:///b", name="")
    open_host_look(one, store="sqlite:///a", name="shop")
    open_host_look(msgspec.structs.replace(one, digest="other"), store="sqlite:///a", name="")
    open_host_look(msgspec.structs.replace(one, machine="other"), store="sqlite:///a", name="")
    assert len(list(shared.glob("pulse-*/*"))) == 5


def test_there_is_no_mark_in_a_folder_of_others(shared: Path) -> None:
    """Another user could stop the tasks of this one by writing marks."""
    own = next(iter(shared.glob("pulse-*")), None)
    assert own is None
    open_host_look(member(1), store="sqlite:///a", name="")
    (own,) = shared.glob("pulse-*")
    own.chmod(0o777)
    assert open_host_look(member(1), store="sqlite:///a", name="") is None


def test_slots_of_ended_processes_are_removed(shared: Path) -> None:
    """The next process that starts removes them."""
    ended = open_host_look(member(2**22 + 1), store="sqlite:///a", name="")
    assert ended is not None
    open_host_look(member(1), store="sqlite:///a", name="").looked(START, NO_WORK)
    assert ended.sleep(START)
    assert len(list(shared.glob("pulse-*/*/*.slot"))) == 1
    open_host_look(member(3), store="sqlite:///a", name="")
    assert list(shared.glob("pulse-*/*/*.slot")) == []
