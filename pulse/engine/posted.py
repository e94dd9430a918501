"""The engine that hands runs over to the workers of a queue, instead of executing them.

Theory of operation
-------------------
Each submitted claim waits for the publisher, a thread (or a greenlet if gevent has patched the
process), which sends a parcel by a carrier. Then the claim is passed to `EngineCallbacks.posted`:
the scheduler hands it over in the store. The order matters. A process that dies before the parcel
is sent leaves a claim, which is abandoned at once; a process that dies after that leaves a parcel
whose run a worker may still take from it.

A claim that the broker does not take is passed to `EngineCallbacks.returned`: its run becomes
pending again. While the broker does not answer, `free` is 0, so that this process claims nothing,
and the publisher probes the broker after 1 s and then every 2 s, so that runs go on soon after any
outage. What is due stays due in the store, and `misfire` decides about it, as after an outage of
the store. For a broker that answers probes and takes no parcel the pauses grow up to 30 s: each of
its answers is reported. The pauses begin at 1 s again once a parcel was sent.

A parcel that the broker refuses says nothing about other queues. Its run becomes pending again
after a pause of its queue, which grows in the same way until a parcel of that queue is sent.

A client of a broker may wait for an answer without a limit. So `free`, which the scheduler calls
before each claim, compares the publisher with the clock of pulse: one that waits for an answer for
`HUNG_AFTER` is left behind with its connection, and another one probes the broker. Whatever the
publisher that was left behind still sends is a duplicate, which the store refuses. A publisher that
has ended with an exception is replaced likewise.

A claim is either one of those that wait or in the field `claim` of a publisher. Whatever removes it
from there holds the lock, and passes it on before it releases the lock. So each claim is passed on
once, and before `stop` returns. Events are emitted without the lock: listeners may take any time.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pulse import events
from pulse.carrier.base import CarrierDownError, CarrierError, parcel_of
from pulse.clock import SECOND, Span
from pulse.core.error_text import message_of
from pulse.engine.base import InterruptSupport
from pulse.engine.loop_thread import LoopThread, spawn
from pulse.forks import ForkMark, import_for_fork, never_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.carrier.base import Carrier, CarrierSetup
    from pulse.clock import Clock
    from pulse.core.run import Claim
    from pulse.engine.base import EngineCallbacks

HUNG_AFTER: Span = 10 * SECOND
"""How long sending one parcel, or a probe, may take."""

FIRST_PAUSE: Span = SECOND
SILENT_PAUSE: Span = 2 * SECOND
"""The pauses before the first and before later probes of a broker that does not answer."""

LONGEST_PAUSE: Span = 30 * SECOND
"""The longest pause for a queue that is refused, and for a broker that only answers probes."""

SHORTEST_WAIT: Span = SECOND
"""How long a run waits for a worker at least, also if its grace is less."""

MAX_HUNG = 3
"""How many publishers are left behind at most; then the process waits for one of them."""

NOT_SENT = "the broker did not take it"
STOPPED = "the process that had claimed it stopped"

_SILENT = f"it has not answered for {HUNG_AFTER // SECOND} s"


class PostedEngine:
    """Sends claims to the workers of a queue.

    Args:
        name: the mode.
        clock: measures pauses, and watches the publisher.
        make_carrier: returns a carrier, which opens nothing; each publisher has its own.
        setup: the queue, and how long a run waits for a worker.

    """

    interrupts: InterruptSupport = InterruptSupport(waiting=False, computing=False)
    default_concurrency = 20

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        make_carrier: Callable[[], Carrier],
        setup: CarrierSetup,
    ) -> None:
        self.name: str = name
        self._clock = clock
        self._make_carrier = make_carrier
        self._setup = setup
        self._mark = ForkMark()
        self.loop: LoopThread = LoopThread(self._mark)
        self._concurrency = 0
        self._claims: deque[Claim] = deque()
        self._publisher: _Publisher | None = None
        self._hung: list[_Publisher] = []
        self._down_since: Span | None = None
        self._pause = FIRST_PAUSE
        self._probe_at: Span = 0
        self._refusals: dict[str, _Refusal] = {}

    # What the scheduler calls -------------------------------------------------------------

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Start the publisher; *concurrency* is how many claims may wait for it."""
        import_for_fork()
        self._work = work
        self._changed = threading.Condition()
        self.loop.open()
        with self._changed:
            self._take_publisher()
            self._concurrency = concurrency

    def free(self) -> int:
        """Return how many claims may be submitted now: none while the broker does not answer."""
        if not self._concurrency or self._mark.in_child:
            return 0
        self._watch()
        with self._changed:
            if self._down_since is not None:
                return 0
            publisher = self._publisher
            sending = publisher is not None and publisher.claim is not None
            return max(0, self._concurrency - len(self._claims) - sending)

    def submit(self, claim: Claim) -> None:
        """Let a claim wait for the publisher; after a stop it is given back."""
        if self._mark.in_child:
            return
        with self._changed:
            if not self._concurrency:
                self._work.returned(claim, 0, STOPPED)
            elif self._down_since is not None:
                self._work.returned(claim, self._pause, NOT_SENT)
            else:
                self._claims.append(claim)
                self._changed.notify_all()

    def interrupt(self, claim: Claim, reason: str) -> None:
        """Do nothing: the worker that takes the run reads the request to stop it."""

    def stop(self, drain_us: Span) -> None:
        """Send what waits for that long, and give the rest back.

        A stop that an exception has cut short, such as one by Ctrl-C, can be repeated.
        """
        if self._publisher is None:
            return
        with self._changed:
            self._concurrency = 0
            self._changed.notify_all()
            self._changed.wait_for(self._is_idle, min(drain_us, HUNG_AFTER) / SECOND)
            publisher = self._publisher
            if self._mark.in_child or publisher is None:
                return
            if publisher.claim is not None:
                self._work.returned(publisher.claim, 0, STOPPED)
                publisher.claim = None
            while self._claims:
                self._work.returned(self._claims[0], 0, STOPPED)
                self._claims.popleft()
            self._publisher = None
            self._changed.notify_all()

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child.

        The copies of carriers are not freed: their clients might end the connections.
        """
        self._mark.set()
        self._concurrency = 0
        copies = [*self._hung, *([] if self._publisher is None else [self._publisher])]
        if copies:
            never_free(copies)
        for one in copies:
            with suppress(Exception):  # whatever a client raises, the copy is not used again
                one.carrier.forked()
        self._claims = deque()
        self._publisher = None

    # The publisher ------------------------------------------------------------------------

    def _take_publisher(self) -> None:
        """Start a publisher, under the lock: it begins when the lock is released."""
        publisher = _Publisher(self._make_carrier())
        spawn(lambda: self._publish(publisher), "pulse-publisher")
        self._publisher = publisher

    def _publish(self, publisher: _Publisher) -> None:
        """Send claims until another publisher is taken, or the engine has stopped."""
        try:
            while (claim := self._next(publisher)) is not None:
                self._send(publisher, claim)
        # What ends a publisher, such as an exit by a client, is reported when it is replaced.
        except BaseException as error:  # noqa: BLE001 - the reason is above
            publisher.ended_by = f"{type(error).__name__} has ended the thread that sends"
        finally:
            if not self._mark.in_child:
                with suppress(Exception):  # whatever a client raises, it is not used again
                    publisher.carrier.close()
            publisher.alive = False

    def _next(self, publisher: _Publisher) -> Claim | None:
        """Return the next claim to send; probe the broker while it does not answer."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_called(publisher), self._until_probe())
                self._mark.stay()
                if self._publisher is not publisher:
                    return None
                if not self._is_called(publisher):
                    continue
                now = self._clock.boot()
                if self._down_since is None:
                    publisher.begin(self._claims.popleft(), now)
                    return publisher.claim
                publisher.begin(None, now)
            self._probe(publisher)

    def _is_called(self, publisher: _Publisher) -> bool:
        if self._publisher is not publisher:
            return True
        if self._down_since is None:
            return bool(self._claims)
        return self._clock.boot() >= self._probe_at

    def _until_probe(self) -> float | None:
        if self._down_since is None:
            return None
        return max(0, self._probe_at - self._clock.boot()) / SECOND

    def _send(self, publisher: _Publisher, claim: Claim) -> None:
        definition = claim.definition
        wait, queue = self._wait_of(claim), definition.queue or self._setup.queue
        parcel = parcel_of(
            claim.run, digest=definition.digest, timeout_us=definition.timeout_us, wait_us=wait
        )
        problem: Exception | None = None
        try:
            publisher.carrier.send(parcel, queue=queue)
        # Whatever a client raises, the claim is given back; an unknown error is shown as it is.
        except Exception as error:  # noqa: BLE001 - the reason is above
            problem = error
        self._mark.stay()
        with self._changed:
            if self._mark.in_child or not publisher.ends(claim):
                return  # it was given back meanwhile
            self._changed.notify_all()
            event: events.Event | None = None
            if problem is None:
                self._pause = FIRST_PAUSE
                self._refusals.pop(queue, None)
                self._work.posted(claim, wait, queue)
            elif isinstance(problem, CarrierError) and not isinstance(problem, CarrierDownError):
                event = self._refuse(claim, queue, problem)
            else:
                self._work.returned(claim, self._pause, NOT_SENT)
                event = self._go_down(publisher, message_of(problem))
        if event is not None:
            self._work.emit(event)

    def _wait_of(self, claim: Claim) -> Span:
        """Return how long the run may wait for a worker: no longer than its grace."""
        grace = claim.definition.grace_us
        wait = self._setup.wait_us
        return wait if grace is None else max(min(wait, grace), SHORTEST_WAIT)

    def _refuse(self, claim: Claim, queue: str, problem: CarrierError) -> events.Event | None:
        """Give a claim back that the broker refused, or of which it is unknown whether it was sent.

        The broker answers, so other tasks go on. Return an event, once until the reason changes.
        """
        before, reason = self._refusals.get(queue), str(problem)
        pause = FIRST_PAUSE if before is None else _longer(before.pause)
        self._refusals[queue] = _Refusal(reason, pause)
        self._work.returned(claim, pause, NOT_SENT)
        if before is not None and before.reason == reason:
            return None
        return events.SchedulerError(problem, claim.run.task)

    def _probe(self, publisher: _Publisher) -> None:
        answers = False
        # Whatever a client raises, the broker does not answer.
        with suppress(Exception):
            publisher.carrier.probe()
            answers = True
        self._mark.stay()
        with self._changed:
            publisher.end()
            if self._publisher is not publisher or self._down_since is None:
                return
            now = self._clock.boot()
            if not answers:
                self._probe_at = now + SILENT_PAUSE
                return
            self._pause = _longer(self._pause)
            after, self._down_since = now - self._down_since, None
        self._work.emit(events.BrokerRecovered(publisher.carrier.name, after))
        self.loop.wake()

    def _go_down(self, publisher: _Publisher, reason: str) -> events.Event | None:
        """Give back what waits for the publisher; return an event if the broker answered so far."""
        while self._claims:
            self._work.returned(self._claims.popleft(), self._pause, NOT_SENT)
        if self._down_since is not None:
            return None
        self._down_since = self._clock.boot()
        self._probe_at = self._down_since + self._pause
        return events.BrokerUnavailable(publisher.carrier.name, reason)

    def _is_idle(self) -> bool:
        publisher = self._publisher
        is_sending = publisher is not None and publisher.claim is not None
        return self._mark.in_child or not (self._claims or is_sending)

    # The watch ----------------------------------------------------------------------------

    def _watch(self) -> None:
        """Replace a publisher that has waited too long or has ended; call one to a due probe."""
        event: events.Event | None = None
        with self._changed:
            publisher, now = self._publisher, self._clock.boot()
            if publisher is None:
                return
            if self._down_since is not None and now >= self._probe_at:
                self._changed.notify_all()
            if publisher.is_hung(now) or not publisher.alive:
                claim, publisher.claim = publisher.claim, None
                if claim is not None:
                    self._work.returned(claim, self._pause, NOT_SENT)
                event = self._go_down(publisher, publisher.ended_by or _SILENT)
                self._replace(publisher)
        if event is not None:
            self._work.emit(event)

    def _replace(self, publisher: _Publisher) -> None:
        """Take another publisher, unless too many are left behind; the next watch tries again."""
        self._hung = [one for one in self._hung if one.alive]
        if len(self._hung) >= MAX_HUNG:
            return
        # Whatever keeps a publisher from starting, such as a system without another thread, may
        # be over at the next watch; until then the broker counts as one that does not answer.
        with suppress(Exception):
            self._take_publisher()
            self._probe_at = self._clock.boot() + self._pause
            self._hung.append(publisher)


class _Publisher:
    """A thread or greenlet that sends; `claim` and `since` are changed under the engine's lock.

    Attributes:
        carrier: its carrier, which nothing else uses.
        claim: the claim that it sends; None for none, also if that was given back.
        since: the boot clock when the call of the carrier began; None while there is no call.
        alive: whether the thread goes on.
        ended_by: what has ended it although it was not left behind; empty for nothing.

    """

    __slots__ = ("alive", "carrier", "claim", "ended_by", "since")

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.claim: Claim | None = None
        self.since: Span | None = None
        self.alive = True
        self.ended_by = ""

    def begin(self, claim: Claim | None, now: Span) -> None:
        """Note that a claim is being sent, or that the broker is being probed."""
        self.claim, self.since = claim, now

    def end(self) -> None:
        """Note that nothing is being sent."""
        self.claim = self.since = None

    def ends(self, claim: Claim) -> bool:
        """Note that nothing is being sent; return False if the claim was given back meanwhile."""
        is_mine = self.claim is claim
        self.end()
        return is_mine

    def is_hung(self, now: Span) -> bool:
        """Return whether the broker has not answered for too long."""
        return self.since is not None and now - self.since > HUNG_AFTER


class _Refusal(NamedTuple):
    """Why parcels of a queue were refused last, and the pause of the runs after that."""

    reason: str
    pause: Span


def _longer(pause: Span) -> Span:
    return min(pause * 2, LONGEST_PAUSE)
