"""A broker in the memory of this process, and its carriers, which fail as a test says."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from pulse.carrier.base import CarrierDownError

if TYPE_CHECKING:
    from pulse.carrier.base import Carrier, Parcel
    from pulse.clock import Clock, Span

LONGEST_HANG_S: Final = 60.0
"""How long a call hangs that no test lets go on."""


class SentParcel(NamedTuple):
    """A parcel that the broker has taken, and the queue that it was sent to."""

    parcel: Parcel
    queue: str


class MemoryBroker:
    """Keeps what its carriers send, and lets their calls fail or hang.

    Args:
        clock: the clock of the instants in `probed_at`.
        name: the name of its carriers.

    Attributes:
        sent: what it has taken, in order.
        probed_at: the boot clock at each probe.
        is_down: whether it does not answer: sends and probes raise `CarrierDownError`.
        problem: what sends raise; None for nothing.
        problems: what sends to a queue raise.
        carriers: the carriers that were made, in order.
        hanging: how many calls hang.

    """

    def __init__(self, clock: Clock, *, name: str = "memory://broker") -> None:
        self.name: str = name
        self.sent: list[SentParcel] = []
        self.probed_at: list[Span] = []
        self.is_down: bool = False
        self.problem: BaseException | None = None
        self.problems: dict[str, BaseException] = {}
        self.carriers: list[MemoryCarrier] = []
        self.hanging: int = 0
        self._clock = clock
        self._gate: threading.Event | None = None
        self._gates: list[threading.Event] = []

    def make_carrier(self) -> Carrier:
        """Return another carrier, which opens nothing."""
        carrier = MemoryCarrier(self)
        self.carriers.append(carrier)
        return carrier

    def hang(self) -> threading.Event:
        """Let each call from now on hang until the returned event is set."""
        self._gate = threading.Event()
        self._gates.append(self._gate)
        return self._gate

    def answer(self) -> None:
        """Let calls from now on not hang; those that hang already still do."""
        self._gate = None

    def release(self) -> None:
        """Let all calls go on, at the end of a test."""
        self.answer()
        for gate in self._gates:
            gate.set()

    def note_probe(self) -> None:
        """Note that a carrier probes the broker now."""
        self.probed_at.append(self._clock.boot())

    def pass_gate(self) -> None:
        """Return when a call that comes now may go on."""
        gate = self._gate
        if gate is not None:
            self.hanging += 1
            gate.wait(LONGEST_HANG_S)
            self.hanging -= 1


class MemoryCarrier:
    """A carrier of a `MemoryBroker`, which is down for it where it is down.

    Attributes:
        is_open: whether it has a connection.
        closed: how often it was closed.
        in_child: whether it is a copy, in a forked child.

    """

    def __init__(self, broker: MemoryBroker) -> None:
        self.name: str = broker.name
        self.is_open: bool = False
        self.closed: int = 0
        self.in_child: bool = False
        self._broker = broker

    def send(self, parcel: Parcel, *, queue: str) -> None:
        """Let the broker keep a parcel."""
        broker = self._broker
        broker.pass_gate()
        self._connect()
        problem = broker.problem or broker.problems.get(queue)
        if problem is not None:
            raise problem
        broker.sent.append(SentParcel(parcel, queue))

    def probe(self) -> None:
        """Note a probe."""
        self._broker.note_probe()
        self._broker.pass_gate()
        self._connect()

    def close(self) -> None:
        """Forget the connection."""
        self.is_open = False
        self.closed += 1

    def forked(self) -> None:
        """Note that this is a copy, in a forked child."""
        self.in_child = True

    def _connect(self) -> None:
        if not self._broker.is_down:
            self.is_open = True
            return
        self.is_open = False
        raise CarrierDownError(f"{self.name} does not answer")
