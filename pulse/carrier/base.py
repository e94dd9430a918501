"""The interface of carriers, which send parcels to the workers of a queue.

Theory of operation
-------------------
A parcel names a run; it holds no call, no header and no body. The store decides which worker may
execute the run (`pulse.store.base`, promise 10). So a carrier may lose, delay and duplicate
parcels, and a parcel may be sent again whenever it is unknown whether it was sent. A carrier
reports three kinds of failure; after each of them the run is given back to the store:

down     The broker does not answer, or not in time. Further parcels would fail too.
refused  The broker answers, and does not take this parcel, as where a queue must not be used.
unknown  The parcel may have been sent or not: the connection was lost before the confirmation.

Other packages add carriers by an entry point of the group `pulse.carriers`: its name is the value
of `pulse.config.mode`, its object takes a `CarrierSetup` and returns a `Carrier`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from pulse.clock import SECOND, Span
from pulse.errors import PulseError, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run

GROUP: Final = "pulse.carriers"

DEFAULT_QUEUE: Final = "pulse"

DEFAULT_WAIT: Final[Span] = 300 * SECOND
"""How long a run waits for a worker, and so how long a lost parcel keeps its task from running."""

VERSION: Final = 1
"""The version of the format of parcels."""


POSTING_MODES: Final = frozenset({"celery"})
"""The modes of pulse that post runs. The mode of a worker ends in its pool: `celery gevent`."""


def lacks_workers(modes: Iterable[str]) -> bool:
    """Return whether processes of these modes post runs, and none of them is a worker."""
    known = set(modes)
    posting = known & POSTING_MODES
    return bool(posting) and not any(one.partition(" ")[0] in posting for one in known - posting)


class CarrierError(PulseError):
    """A parcel was not sent, or it is unknown whether it was."""


class CarrierDownError(CarrierError):
    """The broker does not answer."""


class CarrierRefusedError(CarrierError):
    """The broker answers, and does not take the parcel."""


class CarrierUnknownError(CarrierError):
    """It is unknown whether the parcel was sent."""


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a run that waits for a worker.

    Attributes:
        run: the id of the run.
        attempt: the number of the attempt.
        task: the name of the task.
        poster: the holder that has claimed and sent the run.
        digest: the digest of the definition that the run was claimed with.
        timeout_us: how long the run may take.
        wait_us: how long the run may wait for a worker.
        left: how many workers have left the run to another one.
        version: the version of this format.

    """

    run: str
    attempt: int
    task: str
    poster: str
    digest: str
    timeout_us: Span
    wait_us: Span
    left: int = 0
    version: int = VERSION


def parcel_of(run: Run, *, digest: str, timeout_us: Span, wait_us: Span) -> Parcel:
    """Return the parcel of a run that its holder has claimed."""
    return Parcel(
        run=run.id,
        attempt=run.attempt,
        task=run.task,
        poster=run.holder,
        digest=digest,
        timeout_us=timeout_us,
        wait_us=wait_us,
    )


class CarrierSetup(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a carrier.

    Attributes:
        broker: `pulse.config.broker`; None if it is not set.
        queue: the queue of tasks that name none.
        wait_us: how long a run waits for a worker before it is missed.

    """

    broker: str | None = None
    queue: str = DEFAULT_QUEUE
    wait_us: Span = DEFAULT_WAIT

    def __repr__(self) -> str:
        """Return the values without a password: error reports show locals."""
        broker = self.broker and shown_url(self.broker)
        return f"CarrierSetup({broker=}, queue={self.queue!r}, wait_us={self.wait_us!r})"


class Carrier(Protocol):
    """Sends parcels to a broker; used by one thread or greenlet, which owns its connection.

    Building a carrier opens nothing: `send` and `probe` connect where there is no connection.
    """

    name: str
    """The broker in log lines and errors, without a password."""

    def send(self, parcel: Parcel, *, queue: str) -> None:
        """Send a parcel; return once the broker has taken it.

        Args:
            parcel: what is sent; the broker may drop it after its `wait_us`.
            queue: the name of the queue.

        Raises:
            CarrierDownError: the broker does not answer.
            CarrierRefusedError: the broker does not take the parcel.
            CarrierUnknownError: it is unknown whether the parcel was sent.

        """

    def probe(self) -> None:
        """Return if the broker answers.

        Raises:
            CarrierDownError: it does not.

        """

    def close(self) -> None:
        """Close the connection, without waiting for the broker."""

    def forked(self) -> None:
        """Leave the connection to the parent: this is a copy, in a forked child (`pulse.forks`)."""
