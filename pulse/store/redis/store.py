"""The keeper of the Redis store: each call of the port as one or two scripts on the server.

The server's clock decides what is due and what has expired; `pulse.store.redis.lease_trust` says
when a lease that has expired is taken for lost. All keys of an application carry one hash tag.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.core.runtime_task import remembering
from pulse.errors import StoreInUseError, StoreSchemaError, StoreUnavailableError
from pulse.store.base import Beat, Claimed, Reach
from pulse.store.redis.claims import claims_of, release, write_claims
from pulse.store.redis.client import Server
from pulse.store.redis.deploys import Deploys
from pulse.store.redis.due import Here, Reader
from pulse.store.redis.durability import losses_of
from pulse.store.redis.lease_trust import Trust
from pulse.store.redis.manifests import keep_digests, tidy
from pulse.store.redis.members import (
    LAYOUT,
    Company,
    abandon_runs,
    drop_members,
    join,
    live_of,
    look_at_fleet,
    read_company,
    standing,
)
from pulse.store.redis.runs import finish_runs, newest_runs, renew_runs
from pulse.store.redis.runtime_tasks import add_task, remove_task
from pulse.store.redis.sync import sync_rows
from pulse.store.redis.tasks import pause_rows, read_states, trigger_run
from pulse.store.rules import place_of
from pulse.store.shared.manifests import UNKNOWN, Config, config_of
from pulse.store.shared.recovery import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, Ending, Finished, Run
    from pulse.core.runtime_task import Addition
    from pulse.core.task import Definition
    from pulse.store.base import Member, Synced, TaskState
    from pulse.store.redis.members import Findings
    from pulse.store.shared.manifests import Settled

    Opened = MutableMapping[tuple[int, str, str], "RedisStore"]

DAY: Span = 86_400 * SECOND


class RedisStore:
    """Lets all processes of a fleet agree through one Redis server.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        clock: its boot clock tells how long this process has been looking.
        name: `pulse.config.name`: applications of different names share a database unseen.
        keep_runs: about how many ended runs of each task are remembered.
        keep_for_us: how long they are remembered at most.
        patience_us: how long a call waits for the server in all.
        stand_in: a clock that is asked instead of the server's, for tests.
        opened: what this process has open; a test in which one process plays many gives each its
            own.

    """

    reach = Reach.FLEET
    blocking = False

    # Which applications this process has open: the one fact here that no single store can know. It
    # is keyed by pid, so that a forked child begins with none.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        name: str = "",
        keep_runs: int = 1_000,
        keep_for_us: Span = 30 * DAY,
        patience_us: Span = 5 * SECOND,
        stand_in: Clock | None = None,
        opened: Opened | None = None,
    ) -> None:
        self._server = Server(
            url, prefix=prefix_of(name), patience_us=patience_us, stand_in=stand_in
        )
        self.name: str = self._server.name
        self.notice: str = ""
        self._clock = clock
        self._space = name
        self._keep_runs = keep_runs
        self._keep_for = keep_for_us
        self._key: tuple[int, str, str] | None = None
        self._visits = False
        self._recall = remembering()
        self._opened = self._all_opened if opened is None else opened

    # Taking part -------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Take part as *member*; connections are made here, in the process that uses them."""
        key = self._key_here()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            name = f"under the name {self._space!r}" if self._space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each pulse its own"
                " pulse.config.name"
            )
        self._enter(key, member, visits=False)

    def visit(self, member: Member) -> None:
        """Reach what is kept without a row among the members."""
        self._enter(self._key_here(), member, visits=True)

    def _key_here(self) -> tuple[int, str, str]:
        return os.getpid(), self.name, self._space

    def _enter(self, key: tuple[int, str, str], member: Member, *, visits: bool) -> None:
        self._key, self._visits = key, visits
        try:
            self._server.open()
            self._refuse_other_layout()
            self._begin(member)
        except BaseException:
            self._leave()
            raise

    def _refuse_other_layout(self) -> None:
        found = self._server.command("GET", self._server.key("layout"))
        version = LAYOUT if found is None else int(found)
        if version == LAYOUT:
            return
        age = "newer" if version > LAYOUT else "older"
        raise StoreSchemaError(
            f"{self.name}: expected layout version {LAYOUT}, got {version}, which a {age} release"
            " of pulse wrote; run one release everywhere, or give each its own pulse.config.name"
        )

    def _begin(self, member: Member) -> None:
        self._config = UNKNOWN
        places = frozenset(place_of(scope, member) for scope in Scope) if self._visits else ()
        self._here = Here(
            member, self._space, {}, self._recall, frozenset(places), "", self._keep_runs
        )
        self._seen_at = self._clock.boot()
        self._trust = Trust(member.lease_us, self._seen_at)
        self._deploys = Deploys(member.lease_us)
        self._patience = Patience()
        self._longest = member.lease_us
        if not self._visits:
            self._save()
            self.notice = losses_of(self._server)

    def _save(self, *, adds: bool = False) -> Company:
        return join(self._server, self._here.member, self._config, adds=adds)

    def close(self) -> None:
        """Take part no more; what cannot be written down now is found by the others."""
        if self._key is None:
            return
        if not self._visits:
            with contextlib.suppress(StoreUnavailableError):
                drop_members(self._server, [self._here.member.holder])
        self._leave()

    def _leave(self) -> None:
        self._server.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[Server]:
        """Count anew for how long others are silent where this process was not answered."""
        if self._key is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")
        try:
            yield self._server
        except StoreUnavailableError:
            self._patience.failed()
            self._trust.forget()
            self._deploys.forget()
            raise
        self._patience.answered(self._clock.boot())

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, Definition]) -> Synced:
        """Make rows for this process's config tasks, and keep *definitions* to plan with."""
        held = dict(definitions)
        config = config_of(held)
        with self._reaching() as server:
            here = self._holding(held, config)
            self._config = config
            keep_digests(server, config, held)
            company = self._save(adds=True)
            live = live_of(company, here.member)
            synced = sync_rows(server, here, standing(live, company.configs))
            tidy(server, company, keep_for_us=self._keep_for)
        self._here = here
        self._deploys.begin(synced.superseded)
        return synced

    def _holding(self, definitions: Mapping[str, Definition], config: Config) -> Here:
        scopes = {Scope.FLEET, *(one.scope for one in definitions.values())}
        places = frozenset(place_of(scope, self._here.member) for scope in scopes)
        return self._here._replace(definitions=definitions, places=places, config=config.key)

    def add(self, addition: Addition, *, replace: bool = False) -> Sequence[Run]:
        """Keep a task of the fleet that every process may run, until it is removed."""
        with self._reaching() as server:
            return add_task(server, self._here, addition, replace=replace)

    def remove(self, name: str) -> None:
        """Put a task away that was added; what waits ends, what is held goes on."""
        with self._reaching() as server:
            remove_task(server, name)

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task, in all its places; what passed while paused is missed."""
        with self._reaching() as server:
            pause_rows(server, name, paused=paused)

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name and place."""
        with self._reaching() as server:
            return read_states(server)

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and open at most *limit* runs for this process."""
        boot = self._clock.boot()
        with self._reaching() as server:
            here = self._here
            reading = Reader(server, here, limit, patient=self._patience.lasts(boot)).read()
            if limit <= 0 or not reading.is_work():
                release(server, reading, peeked=limit <= 0)
                return Claimed((), (), reading.now, reading.wake_at, reading.unplanned)
            won = write_claims(server, here, reading)
        claims = claims_of(reading, won.runs, boot + here.member.lease_us)
        return Claimed(
            claims, won.passed, reading.now, won.wake_at, reading.unplanned, won.given_up
        )

    # Runs --------------------------------------------------------------------------------

    def finish(self, endings: Sequence[Ending]) -> list[Finished]:
        """Record how runs ended, and tell what became of each."""
        if not endings:
            return []
        with self._reaching() as server:
            return finish_runs(server, endings)

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress; False stands where the claim was lost."""
        if not claims:
            return []
        with self._reaching() as server:
            return renew_runs(server, claims, self._here.member.lease_us)

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Open an unheld manual run of a task, due now; None when overlap refuses it."""
        with self._reaching() as server:
            return trigger_run(server, self._here, name, body=body)

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        with self._reaching() as server:
            return newest_runs(server, task=task, limit=limit)

    # Staying alive -----------------------------------------------------------------------

    def beat(self) -> Beat:
        """Record that this process lives, and put right what others have left behind."""
        boot = self._clock.boot()
        with self._reaching() as server:
            found = self._look(server, boot)
            passed = self._return(server) if self._was_dropped(found) else ()
            due = boot - self._seen_at >= self._here.member.lease_us // 3
            if not (due or found.lost or found.gone or self._deploys.has_work()):
                return Beat((), (), self._deploys.superseded, found.look_at, passed)
            abandoned, settled = self._put_right(server, found)
        self._seen_at = boot
        archived, superseded = settled.archived, self._deploys.superseded
        return Beat(abandoned, archived, superseded, found.look_at, [*passed, *settled.passed])

    def _look(self, server: Server, boot: Span) -> Findings:
        here = self._here
        found = look_at_fleet(server, here.member, self._trust, boot=boot, longest=self._longest)
        leases = [one.member.lease_us for one in (*found.live, *found.gone)]
        self._longest = max(leases, default=here.member.lease_us)
        self._deploys.look(server, here, found.live, boot)
        return found

    def _was_dropped(self, found: Findings) -> bool:
        holder = self._here.member.holder
        return all(one.member.holder != holder for one in found.live)

    def _return(self, server: Server) -> Sequence[Run]:
        """Take part again, after long silence or on a server that was emptied."""
        was_emptied = not server.command("EXISTS", server.key("layout"))
        passed = self.sync(self._here.definitions).passed
        if was_emptied:
            raise StoreUnavailableError(
                f"{self.name}: it came back without what was kept in it: tasks are first seen"
                " anew; history, pauses and tasks that were added at run time are lost"
            )
        return passed

    def _put_right(self, server: Server, found: Findings) -> tuple[list[Run], Settled]:
        company = self._save()
        abandoned = abandon_runs(server, found.lost, found.now)
        if found.gone:
            drop_members(server, [one.member.holder for one in found.gone])
        settled = self._deploys.settle(server, self._here)
        tidy(server, company, keep_for_us=self._keep_for)
        return abandoned, settled

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
        with self._reaching() as server:
            return [one.member for one in live_of(read_company(server), self._here.member)]


def prefix_of(name: str) -> str:
    """Return what the keys of the application *name* begin with: readable, and never shared."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:24] or "app"
    return f"{{pulse:{slug}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}}}:"
