"""The contract of shared stores: claimed runs are posted to workers, and each is taken once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.run import CLAIM_LOST, QUEUE_HOLDER, RECORDED, Outcome
from tests.contracts.suite.store_harness import (
    EVERY,
    LEASE_S,
    Fleet,
    Process,
    fail,
    make_task,
    succeed,
)
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.core.run import Claim

RACES = 2_000
"""How many runs two threads post and take at the same time."""
BOUND_S = 60


def begin(
    fleet: Fleet, *, every: float = EVERY, **keywords: object
) -> tuple[Process, Process, Claim]:
    """Return a process that has claimed the one run of a task, a worker, and the claim."""
    poster = fleet.join({"work": make_task(interval=every, **keywords)})
    worker = fleet.join_as_worker()
    fleet.clock.forward(every)
    return poster, worker, poster.claim_one()


class PostContract(ContractPart):
    """A claim goes from the process that posts it to the queue, and from there to one worker."""

    def test_posted_run_waits_in_the_queue(self, fleet: Fleet) -> None:
        """It says for how long, and in which queue."""
        poster, _, claim = begin(fleet)
        assert poster.post(claim, wait=90) == [True]
        run = poster.store.run(claim.run.id)
        assert run is not None
        assert (run.holder, run.outcome, run.attempt) == (QUEUE_HOLDER, None, 1)
        assert run.message == "waits for a worker for up to 1m30s (queue pulse)"
        assert run.claimed_at == claim.run.claimed_at

    def test_posted_run_is_taken_from_the_queue(self, fleet: Fleet) -> None:
        """The worker holds the same attempt for a lease of its own."""
        poster, worker, claim = begin(fleet)
        poster.post(claim)
        fleet.clock.forward(100)
        taken = worker.take(claim)
        assert taken is not None
        assert taken.run == poster.store.run(claim.run.id)
        assert (taken.run.holder, taken.run.attempt) == (worker.member.holder, 1)
        assert (taken.run.message, taken.run.fire_time) == ("", claim.run.fire_time)
        assert taken.definition is claim.definition
        assert taken.good_until == fleet.clock.boot() + LEASE_S * SECOND
        assert worker.store.finish([succeed(taken)]) == [RECORDED]

    def test_run_is_taken_from_its_poster_before_it_is_posted(self, fleet: Fleet) -> None:
        """The post that follows is refused, and changes nothing."""
        poster, worker, claim = begin(fleet)
        taken = worker.take(claim)
        assert taken is not None
        assert poster.post(claim) == [False]
        assert poster.store.run(claim.run.id) == taken.run
        assert worker.finish(taken)

    def test_run_is_taken_once(self, fleet: Fleet) -> None:
        """Neither the same worker nor another one takes it again, whatever poster is named."""
        poster, worker, claim = begin(fleet)
        other = fleet.join_as_worker()
        poster.post(claim)
        taken = worker.take(claim)
        assert taken is not None
        assert [one.take(claim) for one in (worker, other)] == [None, None]
        assert [one.take(claim, poster=QUEUE_HOLDER) for one in (worker, other)] == [None, None]
        assert poster.store.run(claim.run.id) == taken.run

    def test_batch_of_posts_is_answered_one_by_one(self, fleet: Fleet) -> None:
        """Each claim that is still held is posted."""
        poster = fleet.join({name: make_task() for name in ("a", "b", "c")})
        worker = fleet.join_as_worker()
        fleet.clock.forward(EVERY)
        first, second, third = poster.claim().claims
        worker.take(second)
        assert poster.post(first, second, third, first) == [True, False, True, False]
        assert poster.post() == []

    def test_each_run_of_a_batch_has_its_own_wait(self, fleet: Fleet) -> None:
        """That of its task."""
        poster = fleet.join({name: make_task(interval=3_600) for name in ("short", "long")})
        fleet.clock.forward(3_600)
        claims = {one.run.task: one for one in poster.claim().claims}
        poster.store.heartbeat()
        poster.store.post([poster.posted(claims["short"], 60), poster.posted(claims["long"], 120)])
        waited = [
            (run.task, run.message) for beat in fleet.wait(150, poster) for run in beat.missed
        ]
        assert waited == [
            ("short", "no worker took it within 1m (queue pulse)"),
            ("long", "no worker took it within 2m (queue pulse)"),
        ]

    @pytest.mark.parametrize(
        "end",
        [
            pytest.param(lambda poster, claim: poster.finish(claim), id="finished"),
            pytest.param(lambda poster, claim: poster.post(claim), id="posted"),
            pytest.param(lambda poster, claim: poster.give_back(claim), id="given back"),
        ],
    )
    def test_claim_that_is_not_held_is_not_posted(
        self, fleet: Fleet, end: Callable[[Process, Claim], object]
    ) -> None:
        """The run stays as it is."""
        poster, _, claim = begin(fleet)
        assert end(poster, claim)
        before = poster.store.run(claim.run.id)
        assert poster.post(claim, wait=7) == [False]
        assert poster.store.run(claim.run.id) == before

    def test_abandoned_claim_is_not_posted(self, fleet: Fleet) -> None:
        """The lease of the poster was over before the broker answered."""
        poster, worker, claim = begin(fleet, every=3_600)
        fleet.wait(LEASE_S + 10, worker)
        assert poster.post(claim) == [False]
        assert worker.take(claim) is None

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda one: {"attempt": one.run.attempt + 1}, id="later attempt"),
            pytest.param(lambda one: {"attempt": one.run.attempt - 1}, id="earlier attempt"),
            pytest.param(lambda _: {"ident": "0" * 32}, id="unknown run"),
            pytest.param(lambda _: {"ident": "' or 1=1 --"}, id="no id"),
        ],
    )
    def test_other_attempt_or_run_is_not_taken(
        self, fleet: Fleet, spoil: Callable[[Claim], dict[str, object]]
    ) -> None:
        """The posted run waits on."""
        poster, worker, claim = begin(fleet)
        poster.post(claim)
        run = claim.run
        words = {"ident": run.id, "attempt": run.attempt} | spoil(claim)
        found = worker.store.take(
            **words,  # type: ignore[arg-type] # of the parameters
            poster=run.holder,
            definition=claim.definition,
        )
        assert found is None
        assert worker.take(claim) is not None

    def test_claim_of_another_process_is_not_taken(self, fleet: Fleet) -> None:
        """A message names the process that posts the run."""
        poster, worker, claim = begin(fleet)
        assert worker.take(claim, poster="alpha:7:nonce") is None
        assert poster.finish(claim)

    def test_finished_run_is_not_taken(self, fleet: Fleet) -> None:
        """Nor one that was given back, which is claimed again first."""
        poster, worker, claim = begin(fleet)
        assert poster.give_back(claim)
        assert worker.take(claim) is None
        again = poster.claim_one()
        assert again.run.attempt == claim.run.attempt
        assert poster.finish(again)
        assert worker.take(claim) is None

    def test_pending_run_is_not_taken_by_a_message_without_a_poster(self, fleet: Fleet) -> None:
        """Its holder is empty as well."""
        poster, worker, claim = begin(fleet)
        poster.give_back(claim)
        taken = worker.store.take(claim.run.id, 0, poster="", definition=claim.definition)
        assert taken is None
        assert poster.claim_one().run.attempt == 1

    def test_message_of_a_claim_that_was_given_back_takes_the_next_claim(
        self, fleet: Fleet
    ) -> None:
        """The broker had the message although it did not say so: the attempt is run once."""
        poster, worker, claim = begin(fleet)
        poster.give_back(claim)
        again = poster.claim_one()
        assert worker.take(claim) is not None
        assert poster.post(again) == [False]
        assert worker.take(again) is None

    def test_poster_neither_renews_nor_records_a_posted_run(self, fleet: Fleet) -> None:
        """Its claim is lost, whether the run waits or was taken."""
        poster, worker, claim = begin(fleet)
        poster.post(claim)
        assert poster.store.renew([claim]) == [False]
        assert poster.store.finish([succeed(claim)]) == [CLAIM_LOST]
        taken = worker.take(claim)
        assert taken is not None
        assert poster.store.renew([claim]) == [False]
        assert poster.store.finish([succeed(claim)]) == [CLAIM_LOST]
        assert poster.store.finish([fail(claim)]) == [CLAIM_LOST]
        assert worker.store.renew([taken]) == [True]
        assert worker.finish(taken)

    def test_taken_run_lasts_as_long_as_its_worker_renews_it(self, fleet: Fleet) -> None:
        """Whatever its wait was."""
        poster, worker, claim = begin(fleet)
        poster.post(claim, wait=EVERY)
        taken = worker.take(claim)
        assert taken is not None
        beats = fleet.wait(4 * LEASE_S, poster, worker, renewing=[(worker, taken)])
        assert not any(beat.abandoned or beat.missed for beat in beats)
        assert worker.finish(taken)

    def test_taken_run_that_is_not_renewed_is_abandoned(self, fleet: Fleet) -> None:
        """After a lease of the worker, whatever its wait was."""
        poster, worker, claim = begin(fleet, every=3_600)
        poster.post(claim, wait=3_000)
        fleet.wait(LEASE_S, poster)
        worker.take(claim)
        beats = fleet.wait(LEASE_S + 10, poster)
        (lost,) = [run for beat in beats for run in beat.abandoned]
        assert (lost.id, lost.outcome) == (claim.run.id, Outcome.ABANDONED)
        assert lost.holder == worker.member.holder

    def test_failure_on_a_worker_is_retried_by_another_post(self, fleet: Fleet) -> None:
        """The message of the first attempt takes nothing any more."""
        poster, worker, claim = begin(fleet, every=600, retries=2, retry_min_backoff=1)
        poster.post(claim)
        taken = worker.take(claim)
        assert taken is not None
        assert worker.fail(taken) is not None
        fleet.clock.forward(2)
        again = poster.claim_one()
        assert (again.run.id, again.run.attempt) == (claim.run.id, 2)
        poster.post(again)
        assert worker.take(claim) is None
        second = worker.take(again)
        assert second is not None
        assert [one.outcome for one in second.run.attempts] == [Outcome.FAILED]
        assert worker.finish(second)

    def test_body_of_a_manual_run_reaches_the_worker(self, fleet: Fleet) -> None:
        """The message need not hold it."""
        poster, worker, claim = begin(fleet)
        poster.finish(claim)
        poster.store.trigger("work", body=b"\x00\xff")
        claim = poster.claim_one()
        poster.post(claim)
        taken = worker.take(claim)
        assert taken is not None
        assert (taken.run.body, taken.run.trigger) == (b"\x00\xff", claim.run.trigger)

    def test_posted_run_counts_for_overlap(self, fleet: Fleet) -> None:
        """As one that is executed."""
        poster, _, claim = begin(fleet)
        poster.post(claim)
        fleet.clock.forward(EVERY)
        assert [run.outcome for run in poster.claim().not_run] == [Outcome.SKIPPED]
        assert [state.unfinished for state in poster.store.tasks()] == [1]

    def test_posted_run_counts_for_the_number_of_runs_at_once(self, fleet: Fleet) -> None:
        """A run that waits for another one is not claimed while that is posted."""
        poster, worker, claim = begin(fleet, overlap="wait")
        poster.post(claim)
        fleet.clock.forward(EVERY)
        assert not poster.claim().claims
        taken = worker.take(claim)
        assert taken is not None
        assert not poster.claim().claims
        worker.finish(taken)
        assert poster.claim_one().run.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_posted_run_outlives_the_close_of_its_poster(self, fleet: Fleet) -> None:
        """A worker takes it with no other process alive."""
        poster, worker, claim = begin(fleet)
        poster.post(claim)
        poster.store.close()
        taken = worker.take(claim)
        assert taken is not None
        assert worker.finish(taken)

    def test_posted_run_outlives_a_poster_that_is_gone(self, fleet: Fleet) -> None:
        """Another process removes the poster, and leaves the run to the workers."""
        poster, worker, claim = begin(fleet)
        poster.post(claim)
        beats = fleet.wait(4 * LEASE_S, worker)
        assert poster.member.holder not in {one.holder for one in beats[-1].members}
        assert not any(beat.abandoned or beat.missed for beat in beats)
        assert worker.take(claim) is not None

    def test_posts_and_takes_that_race_lose_no_run(self, fleet: Fleet) -> None:
        """Each run is taken, whether before its post or after it."""
        poster = fleet.join({f"t{number}": make_task() for number in range(RACES)})
        worker = fleet.join_as_worker()
        fleet.clock.forward(EVERY)
        claims = [one for _ in range(0, RACES, 500) for one in poster.claim(500).claims]
        assert len(claims) == RACES
        posted, taken = race(poster, worker, claims)
        assert all(one is not None for one in taken)
        held = {run.id: run.holder for run in poster.store.runs(limit=RACES)}
        assert set(held.values()) == {worker.member.holder}
        assert len(posted) == RACES
        results = worker.store.finish([succeed(one) for one in taken if one is not None])
        assert results == [RECORDED] * RACES


def race(
    poster: Process, worker: Process, claims: list[Claim]
) -> tuple[list[bool], list[Claim | None]]:
    """Post and take each run at the same time in two threads; return the results."""
    posted: list[bool] = []
    taken: list[Claim | None] = []
    gate = threading.Barrier(2)

    def post() -> None:
        for claim in claims:
            gate.wait(BOUND_S)
            posted.extend(poster.post(claim))

    def take() -> None:
        for claim in claims:
            gate.wait(BOUND_S)
            taken.append(worker.take(claim))

    threads = [threading.Thread(target=call) for call in (post, take)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return posted, taken
