"""The contract of engines that hand runs over to the workers of a queue.

The test module of an engine only says how to make the engine:

    class TestMyEngine(PostedContract):
        def make_posted(self, clock, *, make_carrier, setup):
            return MyEngine(clock, make_carrier=make_carrier, setup=setup)

The carriers are those of a broker in memory. The clock of the engine moves when a test moves it.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from pulse.carrier.base import (
    CarrierDownError,
    CarrierRefusedError,
    CarrierSetup,
    CarrierUnknownError,
    parcel_of,
)
from pulse.clock import SECOND
from pulse.engine.posted import HUNG_AFTER, MAX_HUNG
from pulse.events import BrokerRecovered, BrokerUnavailable, SchedulerError
from pulse.testing.clock import FakeClock
from pulse.testing.engine_contract import MOMENT, LoopContract
from pulse.testing.engine_harness import BOUND, call_together
from pulse.testing.memory_carrier import MemoryBroker
from pulse.testing.posted_harness import PostedHarness
from pulse.testing.sample_runs import make_claim, read_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.carrier.base import Carrier
    from pulse.clock import Clock, Span
    from pulse.engine.base import Engine

SETUP: Final = CarrierSetup(queue="jobs", wait_us=300 * SECOND)


class PostedContract(LoopContract):
    """The promises of an engine that hands runs over instead of executing them."""

    hung_after: Span = HUNG_AFTER
    max_hung: int = MAX_HUNG

    def make_posted(
        self, clock: Clock, *, make_carrier: Callable[[], Carrier], setup: CarrierSetup
    ) -> Engine:
        """Return the engine under test, not started."""
        raise NotImplementedError

    def make(self, clock: Clock) -> Engine:
        """Return an engine with a broker in memory, not started."""
        broker = MemoryBroker(clock)
        return self.make_posted(clock, make_carrier=broker.make_carrier, setup=SETUP)

    @pytest.fixture
    def site(self) -> Iterator[PostedHarness]:
        """Start the engine with a broker in memory, and stop both after the test."""
        site = self.begin_posted(self.concurrency)
        yield site
        site.broker.release()
        site.engine.stop(0)

    def begin_posted(self, concurrency: int) -> PostedHarness:
        """Return a started engine with a broker in memory."""
        clock = FakeClock()
        broker = MemoryBroker(clock)
        engine = self.make_posted(clock, make_carrier=broker.make_carrier, setup=SETUP)
        return PostedHarness(engine, broker, clock, concurrency=concurrency)

    # Sending ------------------------------------------------------------------------------

    def test_no_carrier_is_made_before_the_start(self) -> None:
        """A carrier that were made before a fork would belong to two processes."""
        broker = MemoryBroker(FakeClock())
        self.make_posted(FakeClock(), make_carrier=broker.make_carrier, setup=SETUP)
        assert broker.carriers == []

    def test_a_claim_is_sent_and_posted(self, site: PostedHarness) -> None:
        """The parcel names the run; the claim is posted once, and never executed."""
        claim = make_claim("crash", timeout=7.0)
        site.post(claim)
        definition = claim.definition
        parcel = parcel_of(
            claim.run,
            digest=definition.digest,
            timeout_us=7 * SECOND,
            wait_us=300 * SECOND,
        )
        assert [sent.parcel for sent in site.broker.sent] == [parcel]
        assert (site.posted_claims(), site.returned, site.completed) == ([claim], [], [])

    def test_every_claim_is_posted_once_and_in_order(self, site: PostedHarness) -> None:
        """Parcels leave, and claims are posted, in the order of their submission."""
        claims = [make_claim("quick") for _ in range(self.many)]
        site.post(*claims)
        assert [sent.parcel.run for sent in site.broker.sent] == [one.run.id for one in claims]
        assert (site.posted_claims(), site.returned) == (claims, [])

    @pytest.mark.parametrize(
        ("grace", "expected"), [(None, 300), (600.0, 300), (60.0, 60), (0.1, 1), (0.0, 1)]
    )
    def test_a_run_waits_no_longer_than_its_grace(
        self, site: PostedHarness, grace: float | None, expected: int
    ) -> None:
        """The wait is that of the setting or the grace, and leaves a worker a second at least."""
        claim = make_claim("quick", grace=grace)
        site.post(claim)
        waits = [sent.parcel.wait_us // SECOND for sent in site.broker.sent]
        assert (waits, site.posted) == ([expected], [(claim, expected * SECOND, "jobs")])

    def test_a_task_may_have_a_queue_of_its_own(self, site: PostedHarness) -> None:
        """The queue of the setting is for the others."""
        site.post(make_claim("quick", queue="slow"), make_claim("quick"))
        assert [sent.queue for sent in site.broker.sent] == ["slow", "jobs"]
        assert [queue for _, _, queue in site.posted] == ["slow", "jobs"]

    def test_free_counts_the_claims_that_are_not_sent_yet(self, site: PostedHarness) -> None:
        """A claim takes a place until its parcel is sent."""
        gate = site.submit_to_hung(make_claim("quick"), make_claim("quick"))
        free = site.engine.free()
        gate.set()
        site.await_passed_on(2)
        assert (free, site.engine.free()) == (self.concurrency - 2, self.concurrency)

    def test_a_place_is_free_again_when_its_claim_is_posted(self, site: PostedHarness) -> None:
        """The scheduler may claim the next run at once."""
        seen: list[int] = []
        site.listener = lambda: seen.append(site.engine.free())
        site.post(make_claim("quick"))
        assert seen == [self.concurrency]

    def test_a_request_to_interrupt_a_claim_has_no_effect(self, site: PostedHarness) -> None:
        """The worker that takes the run reads the request."""
        claim = make_claim("quick")
        gate = site.submit_to_hung(claim)
        site.engine.interrupt(claim, "stopped by anna")
        gate.set()
        site.await_passed_on(1)
        assert site.posted_claims() == [claim]

    # A broker that does not answer --------------------------------------------------------

    @pytest.mark.parametrize(
        "problem",
        [CarrierDownError("no answer"), OSError("no answer"), KeyError("no answer")],
        ids=lambda problem: type(problem).__name__,
    )
    def test_all_claims_are_given_back_while_the_broker_does_not_answer(
        self, site: PostedHarness, problem: Exception
    ) -> None:
        """Those that wait, too, in order; an unknown error of a client counts as no answer."""
        claims = [make_claim("quick") for _ in range(3)]
        site.broker.problem = problem
        gate = site.submit_to_hung(*claims)
        gate.set()
        site.await_passed_on(3)
        assert (site.returned_claims(), site.posted) == (claims, [])
        assert (site.engine.free(), site.pauses()) == (0, [1, 1, 1])

    def test_one_event_says_that_the_broker_does_not_answer(self, site: PostedHarness) -> None:
        """It has the name of the broker and the reason."""
        site.go_down()
        site.until(lambda: bool(site.events), "an event")
        site.engine.submit(make_claim("quick"))
        site.await_probe(SECOND)
        name = site.broker.name
        assert site.events == [BrokerUnavailable(name, f"{name} does not answer")]

    def test_a_claim_is_given_back_that_comes_while_the_broker_does_not_answer(
        self, site: PostedHarness
    ) -> None:
        """The scheduler may have claimed it before it could know."""
        site.go_down()
        late = make_claim("quick")
        site.engine.submit(late)
        site.await_passed_on(2)
        assert (site.returned_claims()[-1], site.broker.sent) == (late, [])

    def test_an_exit_of_the_client_is_no_answer_either(self, site: PostedHarness) -> None:
        """A publisher that the client has ended is replaced."""
        claim = make_claim("quick")
        site.broker.problem = SystemExit(3)
        site.engine.submit(claim)
        site.until(lambda: site.engine.free() == 0 and bool(site.returned), "a claim given back")
        site.broker.problem = None
        site.recover(SECOND)
        site.post(make_claim("quick"))
        assert (site.returned_claims(), len(site.posted)) == ([claim], 1)
        assert len(site.emitted(BrokerUnavailable)) == len(site.emitted(BrokerRecovered)) == 1

    def test_the_broker_is_probed_every_two_seconds(self, site: PostedHarness) -> None:
        """After one second of the engine's clock, and then as often in any outage."""
        site.go_down()
        began, expected = site.clock.boot(), list[int]()
        for pause in (1, *(2 for _ in range(20))):
            site.await_probe(pause * SECOND)
            expected.append(sum(expected[-1:]) + pause)
        probed = [(at - began) / SECOND for at in site.broker.probed_at]
        assert (probed, site.engine.free(), len(site.events)) == (expected, 0, 1)

    def test_one_event_says_that_the_broker_answers_again(self, site: PostedHarness) -> None:
        """It has the length of the outage, and the engine takes claims."""
        site.go_down()
        site.await_probe(SECOND)
        site.recover(2 * SECOND)
        claim = make_claim("quick")
        site.post(claim)
        assert site.events[1:] == [BrokerRecovered(site.broker.name, 3 * SECOND)]
        assert (site.posted_claims(), site.engine.free()) == ([claim], self.concurrency)

    def test_a_broker_that_is_back_wakes_the_loop(self, site: PostedHarness) -> None:
        """What is due is claimed at once."""
        site.go_down()
        site.engine.loop.wake()
        site.engine.loop.wait(BOUND)  # uses up the wake-up of the claim that was given back
        site.broker.is_down = False
        before = read_seconds()
        site.clock.forward(1)
        site.engine.free()
        site.engine.loop.wait(BOUND)
        assert read_seconds() - before < BOUND / SECOND / 2
        assert site.engine.free() == self.concurrency

    def test_pauses_grow_for_a_broker_that_answers_probes_and_takes_no_parcel(
        self, site: PostedHarness
    ) -> None:
        """They begin again with a second once a parcel was sent."""
        pauses = [1, 2, 4, 8, 16, 30, 30]
        for pause in pauses:
            site.broker.problem = CarrierDownError("read only")
            site.post(make_claim("quick"))
            site.recover(pause * SECOND)
        site.broker.problem = None
        site.post(make_claim("quick"))
        site.go_down()
        assert site.pauses() == [*pauses, 1]

    def test_a_broker_that_falls_silent_is_probed_every_two_seconds_again(
        self, site: PostedHarness
    ) -> None:
        """Whatever it did before: the pauses are long only while each probe is answered."""
        for pause in (1, 2, 4, 8):
            site.broker.problem = CarrierDownError("read only")
            site.post(make_claim("quick"))
            site.recover(pause * SECOND)
        site.broker.problem = None
        site.go_down()
        began = site.clock.boot()
        for pause in (16, 2, 2):
            site.await_probe(pause * SECOND)
        probed = [(at - began) / SECOND for at in site.broker.probed_at[-3:]]
        assert probed == [16, 18, 20]

    # A broker that refuses a parcel -------------------------------------------------------

    @pytest.mark.parametrize(
        "problem",
        [CarrierRefusedError("no such queue"), CarrierUnknownError("connection lost")],
        ids=lambda problem: type(problem).__name__,
    )
    def test_a_claim_that_the_broker_refuses_is_given_back(
        self, site: PostedHarness, problem: Exception
    ) -> None:
        """The engine goes on with other tasks, and so it does where it does not know."""
        refused, other = make_claim("quick", queue="slow"), make_claim("quick")
        site.broker.problems["slow"] = problem
        site.post(refused, other)
        assert (site.returned_claims(), site.posted_claims()) == ([refused], [other])
        assert site.engine.free() == self.concurrency

    def test_a_reason_is_reported_once_until_it_changes(self, site: PostedHarness) -> None:
        """However many parcels of other queues are sent meanwhile."""
        first, second = CarrierRefusedError("no such queue"), CarrierRefusedError("it is full")
        for problem in (first, first, second, second):
            site.broker.problems["slow"] = problem
            site.post(make_claim("quick", queue="slow"), make_claim("quick"))
        assert site.events == [SchedulerError(first, "quick"), SchedulerError(second, "quick")]

    def test_a_reason_is_reported_again_after_a_parcel_was_sent(self, site: PostedHarness) -> None:
        """The queue has worked in between."""
        problem = CarrierRefusedError("it is full")
        for _ in range(2):
            site.broker.problems["slow"] = problem
            site.post(make_claim("quick", queue="slow"))
            del site.broker.problems["slow"]
            site.post(make_claim("quick", queue="slow"))
        assert len(site.emitted(SchedulerError)) == 2

    def test_pauses_grow_for_a_queue_that_is_refused(self, site: PostedHarness) -> None:
        """They begin again with a second once a parcel of that queue was sent."""
        problem = CarrierRefusedError("it is full")
        site.broker.problems["slow"] = problem
        for _ in range(7):
            site.post(make_claim("quick", queue="slow"), make_claim("quick"))
        del site.broker.problems["slow"]
        site.post(make_claim("quick", queue="slow"))
        site.broker.problems["slow"] = problem
        site.post(make_claim("quick", queue="slow"))
        assert site.pauses() == [1, 2, 4, 8, 16, 30, 30, 1]

    # A carrier that hangs -----------------------------------------------------------------

    def test_claims_are_given_back_once_the_carrier_has_hung_for_too_long(
        self, site: PostedHarness
    ) -> None:
        """In order, with one event; before that the engine waits."""
        claims = [make_claim("quick") for _ in range(3)]
        site.submit_to_hung(*claims)
        site.forward(self.hung_after)
        waiting = (list(site.returned), list(site.events))
        site.forward(MOMENT)
        assert (waiting, site.engine.free()) == (([], []), 0)
        assert (site.returned_claims(), site.posted) == (claims, [])
        assert [type(event) for event in site.events] == [BrokerUnavailable]

    def test_another_publisher_takes_over_from_one_that_hangs(self, site: PostedHarness) -> None:
        """It has a carrier of its own, and what the other one does later is dropped."""
        lost, other = make_claim("quick"), make_claim("quick")
        gate = site.submit_to_hung(lost)
        site.forward(self.hung_after + MOMENT)
        site.recover(SECOND)
        site.post(other)
        gate.set()
        hung, second = site.broker.carriers
        site.until(lambda: hung.closed == 1, "the end of the publisher that hung")
        assert [sent.parcel.run for sent in site.broker.sent] == [other.run.id, lost.run.id]
        assert (site.posted_claims(), site.returned_claims()) == ([other], [lost])
        assert (second.closed, len(site.events)) == (0, 2)

    def test_a_failure_of_a_carrier_that_has_hung_is_dropped(self, site: PostedHarness) -> None:
        """The engine knows already, and its broker may be back."""
        gate = site.submit_to_hung(make_claim("quick"))
        site.forward(self.hung_after + MOMENT)
        site.recover(SECOND)
        site.broker.problem = CarrierDownError("too late")
        gate.set()
        site.until(lambda: site.broker.carriers[0].closed == 1, "the end of the publisher")
        assert (len(site.returned), len(site.events)) == (1, 2)
        assert site.engine.free() == self.concurrency

    def test_a_probe_that_hangs_is_left_behind_too(self, site: PostedHarness) -> None:
        """Another publisher probes the broker after it."""
        site.go_down()
        site.broker.hang()
        site.forward(SECOND)
        site.until(lambda: site.broker.hanging == 1, "a probe that hangs")
        site.forward(self.hung_after + MOMENT)
        site.until(lambda: len(site.broker.carriers) == 2, "another carrier")
        site.recover(2 * SECOND)
        assert len(site.events) == 2

    def test_no_more_publishers_are_left_behind_than_allowed(self, site: PostedHarness) -> None:
        """Claims are given back all the same, and the engine goes on when one of them ends."""
        gates = []
        for _ in range(self.max_hung + 1):
            gates.append(site.submit_to_hung(make_claim("quick"), make_claim("quick")))
            site.forward(self.hung_after + MOMENT)
            site.broker.answer()
            if len(gates) <= self.max_hung:
                site.recover(30 * SECOND)
        site.forward(2 * self.hung_after)
        count = 1 + self.max_hung
        stuck = (len(site.broker.carriers), site.broker.hanging, len(site.returned))
        assert (stuck, site.engine.free()) == ((count, count, 2 * count), 0)
        gates[0].set()
        site.until(lambda: site.broker.hanging < count, "the end of a publisher")
        site.recover(60 * SECOND)
        site.post(make_claim("quick"))
        assert (len(site.broker.carriers), len(site.posted)) == (count + 1, 1)
        assert len(site.returned) == 2 * count

    def test_the_last_publisher_goes_on_if_it_is_the_first_to_get_an_answer(
        self, site: PostedHarness
    ) -> None:
        """A claim that was given back meanwhile is not posted."""
        for number in range(self.max_hung + 1):
            gate = site.submit_to_hung(make_claim("quick"))
            site.forward(self.hung_after + MOMENT)
            if number < self.max_hung:
                site.recover(30 * SECOND)
        gate.set()
        site.recover(60 * SECOND)
        site.post(make_claim("quick"))
        count = 1 + self.max_hung
        assert (len(site.broker.carriers), len(site.posted)) == (count, 1)
        assert len(site.returned) == count

    # The end ------------------------------------------------------------------------------

    def test_a_claim_that_comes_after_the_stop_is_given_back(self, site: PostedHarness) -> None:
        """It may be claimed again at once, by another process."""
        site.engine.stop(0)
        claim = make_claim("quick")
        site.engine.submit(claim)
        assert [(one, pause) for one, pause, _ in site.returned] == [(claim, 0)]
        assert site.broker.sent == []

    def test_stop_sends_what_waits_within_the_drain(self, site: PostedHarness) -> None:
        """All claims are posted before `stop` returns, which it does at once then."""
        claims = [make_claim("quick") for _ in range(3)]
        gate = site.submit_to_hung(*claims)
        opener = threading.Timer(MOMENT / SECOND, gate.set)
        before = read_seconds()
        opener.start()
        site.engine.stop(BOUND)
        opener.join()
        assert read_seconds() - before < BOUND / SECOND / 4
        assert (site.posted_claims(), site.returned) == (claims, [])

    def test_stop_returns_after_the_last_claim_was_passed_on(self, site: PostedHarness) -> None:
        """The scheduler records what was passed on as soon as `stop` has returned."""
        begun = threading.Event()

        def take_long() -> None:
            begun.set()
            threading.Event().wait(MOMENT / SECOND)

        site.listener = take_long
        site.engine.submit(make_claim("quick"))
        begun.wait(BOUND / SECOND)
        site.engine.stop(0)
        assert (len(site.posted), site.returned) == (1, [])

    @pytest.mark.parametrize("drain", [0, MOMENT], ids=["no drain", "a drain"])
    def test_stop_gives_back_what_is_not_sent_within_the_drain(
        self, site: PostedHarness, drain: Span
    ) -> None:
        """In order, and before `stop` returns, which it does although the carrier hangs."""
        claims = [make_claim("quick") for _ in range(3)]
        site.submit_to_hung(*claims)
        before = read_seconds()
        site.engine.stop(drain)
        assert read_seconds() - before < BOUND / SECOND / 2
        assert (site.returned_claims(), site.posted) == (claims, [])
        assert site.pauses() == [0, 0, 0]

    def test_what_a_carrier_sends_after_the_stop_is_dropped(self, site: PostedHarness) -> None:
        """The claim was given back already; the carrier is closed when it returns."""
        gate = site.submit_to_hung(make_claim("quick"))
        site.engine.stop(0)
        gate.set()
        site.until(lambda: site.broker.carriers[0].closed == 1, "the end of the publisher")
        assert (len(site.broker.sent), site.posted, len(site.returned)) == (1, [], 1)

    def test_an_idle_engine_stops_at_once_and_closes_its_carrier(self, site: PostedHarness) -> None:
        """It does not wait for the drain."""
        site.post(make_claim("quick"))
        before = read_seconds()
        site.engine.stop(BOUND)
        assert read_seconds() - before < BOUND / SECOND / 2
        site.until(lambda: site.broker.carriers[0].closed == 1, "a closed carrier")

    def test_an_engine_whose_broker_does_not_answer_stops_at_once(
        self, site: PostedHarness
    ) -> None:
        """It neither waits for the next probe nor makes it."""
        site.go_down()
        before = read_seconds()
        site.engine.stop(BOUND)
        assert read_seconds() - before < BOUND / SECOND / 2
        site.until(lambda: site.broker.carriers[0].closed == 1, "a closed carrier")
        assert site.broker.probed_at == []

    def test_many_may_stop_an_engine_at_once(self) -> None:
        """Ten callers of `stop`, many times: all return, and each claim is passed on once."""
        for _ in range(20):
            site = self.begin_posted(self.concurrency)
            claims = [make_claim("quick") for _ in range(3)]
            gate = site.submit_to_hung(*claims)
            opener = threading.Timer(0.001, gate.set)
            opener.start()
            call_together(partial(site.engine.stop, MOMENT), callers=10)
            opener.join()
            assert [*site.posted_claims(), *site.returned_claims()] == claims

    # A forked child -----------------------------------------------------------------------

    def test_a_copy_in_a_forked_child_passes_no_claim_on(self, site: PostedHarness) -> None:
        """Neither those that it was sending or that waited, nor a new one."""
        gate = site.submit_to_hung(make_claim("quick"), make_claim("quick"))
        site.engine.forked()
        site.engine.submit(make_claim("quick"))
        gate.set()
        site.until(lambda: bool(site.broker.sent), "what the carrier was sending")
        site.engine.stop(0)
        assert (site.posted, site.returned, site.events) == ([], [], [])
        assert (site.engine.free(), len(site.broker.sent)) == (0, 1)

    def test_a_copy_in_a_forked_child_does_not_probe(self, site: PostedHarness) -> None:
        """Nor does it say that the broker answers again."""
        site.go_down()
        site.engine.forked()
        site.broker.is_down = False
        site.forward(2 * SECOND)
        site.engine.stop(0)
        assert (site.broker.probed_at, len(site.events)) == ([], 1)
