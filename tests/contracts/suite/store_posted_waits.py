"""The contract of shared stores: posted runs end when nobody takes them, or somebody ends them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, moment_of
from pulse.core.run import Outcome
from pulse.store.rules import NOT_DECLARED, REMOVED
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import (
    EVERY,
    LEASE_S,
    WAIT_S,
    Fleet,
    Process,
    make_task,
)
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Claim, Run
    from pulse.store.base import HeartbeatResult

HOUR_S = 3_600
SHORT_S = 12
NOT_TAKEN = "no worker took it within 5m (queue pulse)"


def begin(
    fleet: Fleet, *, wait: float = WAIT_S, every: float = HOUR_S, **keywords: object
) -> tuple[Process, Claim]:
    """Return a process that has posted the one run of a task, and the claim that it had.

    The process has sent heartbeats before, so that it has observed leases for a while.
    """
    poster = fleet.join({"work": make_task(interval=every, **keywords)})
    fleet.clock.forward(every - LEASE_S)
    fleet.wait(LEASE_S, poster)
    claim = poster.claim_one()
    poster.post(claim, wait=wait)
    return poster, claim


def missed(beats: Iterable[HeartbeatResult]) -> list[Run]:
    """Return the runs that heartbeats report as missed; none may be abandoned."""
    found = list(beats)
    assert not [run for beat in found for run in beat.abandoned]
    return [run for beat in found for run in beat.missed]


class PostedWaitContract(ContractPart):
    """A posted run that nobody takes in time is missed, once, by any process."""

    @pytest.mark.parametrize("on_abandoned", ["record", "rerun"])
    def test_run_that_no_worker_takes_is_missed(self, fleet: Fleet, on_abandoned: str) -> None:
        """It is not attempted again, and its task runs again at its next fire time."""
        poster, claim = begin(fleet, on_abandoned=on_abandoned)
        (run,) = missed(fleet.wait(WAIT_S, poster))
        assert (run.id, run.outcome, run.message) == (claim.run.id, Outcome.MISSED, NOT_TAKEN)
        assert (run.holder, run.attempt, run.claimed_at, run.retry_at) == ("", 0, None, None)
        assert run == poster.store.run(claim.run.id)
        assert [state.unfinished for state in poster.store.tasks()] == [0]
        assert not poster.claim().claims
        fleet.clock.forward(HOUR_S - WAIT_S)
        assert poster.claim_one().run.fire_time == claim.run.fire_time + HOUR_S * SECOND

    def test_posted_run_is_not_missed_before_its_wait_is_over(self, fleet: Fleet) -> None:
        """A wait of many leases is longer than any lease."""
        poster, claim = begin(fleet)
        assert not missed(fleet.wait(WAIT_S - 5, poster))
        assert fleet.join_as_worker().take(claim) is not None

    def test_wait_may_be_shorter_than_a_lease(self, fleet: Fleet) -> None:
        """It ends after its own length."""
        poster, claim = begin(fleet, wait=SHORT_S)
        assert not missed(fleet.wait(SHORT_S - 2, poster))
        fleet.clock.forward(2)
        (run,) = missed([poster.store.heartbeat()])
        assert (run.id, run.message) == (claim.run.id, "no worker took it within 12s (queue pulse)")

    def test_missed_run_cannot_be_taken(self, fleet: Fleet) -> None:
        """A message that comes too late is refused."""
        poster, claim = begin(fleet, wait=SHORT_S)
        worker = fleet.join_as_worker()
        fleet.wait(2 * LEASE_S, poster)
        assert worker.take(claim) is None
        assert not poster.finish(claim)

    def test_posted_run_is_missed_once_among_several_processes(self, fleet: Fleet) -> None:
        """One of them reports it."""
        poster, claim = begin(fleet)
        others = [fleet.join({}), fleet.join_as_worker()]
        assert [run.id for run in missed(fleet.wait(2 * WAIT_S, poster, *others))] == [claim.run.id]

    def test_posted_run_is_missed_without_its_poster(self, fleet: Fleet) -> None:
        """A worker alone finds out, as one that reads another queue."""
        poster, claim = begin(fleet)
        poster.store.close()
        worker = fleet.join_as_worker()
        assert [run.id for run in missed(fleet.wait(WAIT_S, worker))] == [claim.run.id]

    def test_processes_that_live_for_less_than_the_wait_miss_a_run(self, fleet: Fleet) -> None:
        """The last of them observes the run for a lease, after which the wait is over."""
        poster, claim = begin(fleet)
        poster.store.close()
        beats = []
        for _ in range(WAIT_S // 50):
            process = fleet.join({"work": make_task(interval=HOUR_S)})
            beats += fleet.wait(50, process)
            process.store.close()
        assert [run.id for run in missed(beats)] == [claim.run.id]

    def test_heartbeat_returns_when_the_next_wait_is_over(self, fleet: Fleet) -> None:
        """A heartbeat at that instant ends the run."""
        poster, claim = begin(fleet, wait=47)
        over_at = fleet.clock.boot() + 47 * SECOND
        assert poster.store.heartbeat().next_expiry == over_at
        assert not missed(fleet.wait(45, poster))
        assert poster.store.heartbeat().next_expiry == over_at
        fleet.clock.forward(2)
        assert [run.id for run in missed([poster.store.heartbeat()])] == [claim.run.id]

    def test_lease_of_another_run_ends_before_the_wait_of_a_posted_one(self, fleet: Fleet) -> None:
        """A posted run keeps no claimed one from being abandoned in time."""
        tasks = {name: make_task(interval=HOUR_S) for name in ("posted", "lost")}
        poster, other = fleet.join(tasks), fleet.join(tasks)
        fleet.clock.forward(HOUR_S - LEASE_S)
        fleet.wait(LEASE_S, other)
        claims = {one.run.task: one for one in poster.claim().claims}
        poster.post(claims["posted"])
        beats = fleet.wait(LEASE_S + 5, other)
        assert [run.task for beat in beats for run in beat.abandoned] == ["lost"]
        assert not [run for beat in beats for run in beat.missed]

    def test_clock_set_back_prolongs_no_wait(self, fleet: Fleet) -> None:
        """The run is missed once it was observed for its whole wait."""
        poster, claim = begin(fleet)
        poster.store.heartbeat()
        fleet.clock.set_wall(moment_of(fleet.clock.wall()) - timedelta(hours=5))
        assert not missed(fleet.wait(WAIT_S - 5, poster))
        assert [run.id for run in missed(fleet.wait(5, poster))] == [claim.run.id]

    def test_clock_set_ahead_ends_no_wait_within_a_lease(self, fleet: Fleet) -> None:
        """The observer has not seen the run for long."""
        poster, claim = begin(fleet)
        poster.store.heartbeat()
        fleet.clock.set_wall(moment_of(fleet.clock.wall()) + timedelta(hours=5))
        assert not missed(fleet.wait(LEASE_S - 5, poster))
        assert fleet.join_as_worker().take(claim) is not None

    def test_clock_set_back_keeps_no_claimed_run_from_being_abandoned(self, fleet: Fleet) -> None:
        """Its lease ends hours later on the store's clock; nobody takes it for a posted run."""
        holder = fleet.join({"work": make_task()})
        other = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = holder.claim_one()
        other.store.heartbeat()
        fleet.clock.set_wall(moment_of(fleet.clock.wall()) - timedelta(hours=5))
        beats = fleet.wait(LEASE_S + 10, other)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]

    def test_retry_that_no_worker_takes_ends_as_its_last_attempt(self, fleet: Fleet) -> None:
        """The fire time has run, so that it is not missed; the message says what came after."""
        poster, claim = begin(fleet, retries=1, retry_min_backoff=1)
        worker = fleet.join_as_worker()
        retry_at = worker.fail(worker.take(claim), status=503, message="busy")
        assert retry_at is not None
        fleet.clock.forward((retry_at - fleet.clock.wall()) / SECOND)
        poster.post(poster.claim_one())
        beats = fleet.wait(WAIT_S + 10, poster)
        (run,) = [run for beat in beats for run in beat.expired_retries]
        assert not missed(beats)
        assert run == poster.store.run(claim.run.id)
        assert (run.outcome, run.status, run.attempt) == (Outcome.FAILED, 503, 1)
        assert (run.message, run.attempts, run.holder) == (f"attempt 2: {NOT_TAKEN}\nbusy", (), "")
        assert run.took_us is not None

    def test_rerun_that_no_worker_takes_ends_as_abandoned(self, fleet: Fleet) -> None:
        """The record shows that one attempt had begun."""
        poster, claim = begin(fleet, on_abandoned="rerun")
        worker = fleet.join_as_worker()
        worker.take(claim)
        fleet.wait(LEASE_S + 10, poster)
        again = poster.claim_one()
        assert again.run.attempt == 2
        poster.post(again)
        assert worker.take(claim) is None
        beats = fleet.wait(WAIT_S + 10, poster)
        (run,) = [run for beat in beats for run in beat.expired_retries]
        assert not missed(beats)
        assert (run.outcome, run.attempt, run.attempts) == (Outcome.ABANDONED, 1, ())
        assert run.message.startswith(f"attempt 2: {NOT_TAKEN}\n")


class PostedEndContract(ContractPart):
    """A posted run ends as a pending one does; a pause leaves it alone, as a claimed one."""

    def test_posted_run_is_stopped_at_once(self, fleet: Fleet) -> None:
        """No worker takes it, and its task runs again."""
        poster, claim = begin(fleet)
        stopped = poster.store.stop(claim.run.id, by="anna")
        assert (stopped.outcome, stopped.message) == (Outcome.INTERRUPTED, "stopped by anna")
        assert (stopped.holder, stopped.attempt) == ("", 0)
        assert stopped == poster.store.run(claim.run.id)
        assert fleet.join_as_worker().take(claim) is None
        assert poster.store.trigger("work") is not None

    def test_taken_run_is_stopped_by_its_worker(self, fleet: Fleet) -> None:
        """Its heartbeats have the request, and not those of the process that posted the run."""
        poster, claim = begin(fleet)
        worker = fleet.join_as_worker()
        worker.take(claim)
        assert poster.store.stop(claim.run.id, by="anna").outcome is None
        assert worker.store.heartbeat().stops[claim.run.id].reason() == "stopped by anna"

    def test_request_to_stop_a_claim_follows_it_to_the_worker(self, fleet: Fleet) -> None:
        """Somebody asked while the message was on its way to the broker."""
        poster = fleet.join({"work": make_task()})
        worker = fleet.join_as_worker()
        fleet.clock.forward(EVERY)
        claim = poster.claim_one()
        poster.store.stop(claim.run.id, by="anna")
        poster.post(claim)
        assert worker.take(claim) is not None
        assert worker.store.heartbeat().stops[claim.run.id].by == "anna"

    def test_posted_run_of_a_removed_task_ends(self, fleet: Fleet) -> None:
        """It did not begin, and cannot be taken."""
        poster = fleet.join({"other": make_task(interval=HOUR_S)})
        worker = fleet.join_as_worker()
        poster.add("work", make_task())
        fleet.clock.forward(EVERY)
        claim = poster.claim_one()
        poster.post(claim)
        poster.store.remove("work")
        run = poster.store.run(claim.run.id)
        assert run is not None
        assert (run.outcome, run.message) == (Outcome.ABANDONED, REMOVED)
        assert (run.holder, run.attempt) == ("", 0)
        assert worker.take(claim) is None

    def test_taken_run_of_a_removed_task_goes_on(self, fleet: Fleet) -> None:
        """As every claimed run; so does one that is posted after the removal."""
        poster = fleet.join({})
        worker = fleet.join_as_worker()
        for name in ("taken", "late"):
            poster.add(name, make_task())
        fleet.clock.forward(EVERY)
        claims = {one.run.task: one for one in poster.claim().claims}
        taken = worker.take(claims["taken"])
        assert taken is not None
        for name in ("taken", "late"):
            poster.store.remove(name)
        assert poster.post(claims["late"]) == [True]
        late = worker.take(claims["late"])
        assert late is not None
        assert [worker.finish(one) for one in (taken, late)] == [True, True]

    def test_posted_run_of_another_task_outlives_a_removal(self, fleet: Fleet) -> None:
        """Only the runs of the removed task end."""
        poster, claim = begin(fleet)
        poster.add("added", make_task())
        poster.store.remove("added")
        assert fleet.join_as_worker().take(claim) is not None

    def test_posted_run_of_an_archived_task_ends(self, fleet: Fleet) -> None:
        """No process declares the task any more; the heartbeat reports the run."""
        poster, claim = begin(fleet)
        poster.sync({})
        beats = fleet.wait(4 * LEASE_S, poster)
        assert [name for beat in beats for name in beat.archived] == ["work"]
        (run,) = [run for beat in beats for run in beat.abandoned]
        assert (run.id, run.outcome, run.message) == (
            claim.run.id,
            Outcome.ABANDONED,
            NOT_DECLARED,
        )
        assert fleet.join_as_worker().take(claim) is None

    def test_posted_run_outlives_a_changed_schedule(self, fleet: Fleet) -> None:
        """It was due before, as a claimed run was."""
        poster, claim = begin(fleet)
        assert poster.sync({"work": make_task(interval=7)}).changed == ("work",)
        assert fleet.join_as_worker().take(claim) is not None

    @pytest.mark.parametrize("name", ["work", None], ids=["task", "all"])
    def test_pause_leaves_posted_runs_alone(self, fleet: Fleet, name: str | None) -> None:
        """They were due before it."""
        poster, claim = begin(fleet)
        poster.store.pause(name, Pause())
        taken = fleet.join_as_worker().take(claim)
        assert taken is not None
        poster.store.pause(name, None)
        assert poster.store.run(claim.run.id) == taken.run

    def test_posted_run_of_a_paused_task_is_missed_for_its_own_reason(self, fleet: Fleet) -> None:
        """The pause is not to blame."""
        poster, _ = begin(fleet, wait=60)
        poster.store.pause("work", Pause())
        assert [run.message for run in missed(fleet.wait(100, poster))] == [
            "no worker took it within 1m (queue pulse)"
        ]
