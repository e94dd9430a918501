"""The keeper of every store that speaks SQL: each call of the port as one read, one short write.

What is kept, and the statements that all databases share, are in the modules beside this one; a
`Storage` is the database itself. Leases and deploys lean on no wall clock: see
`pulse.store.lease_watch` and `pulse.store.shared.manifests`.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, ClassVar, TypeVar
from weakref import WeakValueDictionary

from pulse.core.policies import Scope
from pulse.core.runtime_task import remembering
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.store.base import Beat, Claimed
from pulse.store.rules import place_of
from pulse.store.shared.manifests import UNKNOWN, config_of
from pulse.store.shared.recovery import Patience
from pulse.store.sql.caller import Here
from pulse.store.sql.claims import claims_of, plan_due, write_claims
from pulse.store.sql.database import AlreadyThereError, How, StorageReplacedError
from pulse.store.sql.deploys import Deploys, add_config, read_standing
from pulse.store.sql.due_query import pages_for
from pulse.store.sql.members import (
    Watches,
    abandon_runs,
    drop_member,
    read_live,
    save_member,
)
from pulse.store.sql.runs import (
    all_end,
    end_runs,
    finish_runs,
    newest_runs,
    renew_runs,
    trim_old,
)
from pulse.store.sql.runtime_tasks import add_task, remove_task
from pulse.store.sql.tasks import (
    forget_archived,
    pause_rows,
    read_states,
    sync_rows,
    trigger_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, Ending, Finished, Run
    from pulse.core.runtime_task import Addition
    from pulse.core.task import Definition
    from pulse.store.base import Member, Reach, Synced, TaskState
    from pulse.store.shared.manifests import Config, Settled
    from pulse.store.sql.claims import Reading, Won
    from pulse.store.sql.database import Link, Storage
    from pulse.store.sql.members import Findings

    Opened = MutableMapping[tuple[int, str, str], "SqlStore"]

T = TypeVar("T")

STAY_ASIDE = 16
"""For so many claims a process that met others at the same rows looks for some elsewhere."""


class SqlStore:
    """Lets processes agree through one database.

    Args:
        storage: the database.
        clock: tells how long things last; what is due, the storage says.
        name: `pulse.config.name`: applications of different names share a database unseen.
        keep_runs: about how many ended runs of each task are remembered.
        keep_for_us: how long they are remembered at most.
        opened: what this process has open; a test in which one process plays many gives each its
            own.

    """

    reach: Reach
    blocking: bool = True
    notice: str = ""

    # What this process has open: the one fact here that no single store can know. It is keyed by
    # pid, so that a forked child begins with none.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        *,
        name: str,
        keep_runs: int,
        keep_for_us: Span,
        opened: Opened | None = None,
    ) -> None:
        self.name: str = storage.name
        self._storage = storage
        self._clock = clock
        self._space = name
        self._keep_runs = keep_runs
        self._keep_for = keep_for_us
        self._key: tuple[int, str, str] | None = None
        self._visits = False
        self._adrift = False
        self._untold: StorageReplacedError | None = None
        self._passed: list[Run] = []  # on record, and told by the next beat
        self._recall = remembering()
        self._opened = self._all_opened if opened is None else opened

    # Taking part -------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Take part as *member*; makes the storage where it is not there yet."""
        key = self._key_here()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            name = f"under the name {self._space!r}" if self._space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each pulse its own"
                " pulse.config.name"
            )
        self._enter(key, member, visits=False)

    def visit(self, member: Member) -> None:
        """Reach the tables without a row among the members."""
        self._enter(self._key_here(), member, visits=True)

    def _key_here(self) -> tuple[int, str, str]:
        return os.getpid(), self._storage.identity(), self._space

    def _enter(self, key: tuple[int, str, str], member: Member, *, visits: bool) -> None:
        self._key, self._visits, self._adrift = key, visits, False
        try:
            self._storage.open()
            self._begin(member)
        except BaseException:
            self._leave()
            raise

    def _begin(self, member: Member) -> None:
        self._config = UNKNOWN
        places = frozenset(place_of(scope, member) for scope in Scope) if self._visits else ()
        self._here = Here(member, self._space, {}, self._recall, frozenset(places), self._keep_runs)
        self._watches = Watches(member.lease_us)
        self._deploys = Deploys(self._watches.unwanted)
        self._seen_at = self._clock.boot()
        self._contested = 0
        self._company = 1
        self._patience = Patience()
        if not self._visits:
            self._call(How.ALONE, self._save)

    def _save(self, link: Link) -> None:
        wall, boot = link.now(), self._clock.boot()
        save_member(link, self._here.member, self._config.key, wall=wall, boot=boot)

    def close(self) -> None:
        """Take part no more; what cannot be written down now is found by the others."""
        if self._key is None:
            return
        holder = self._here.member.holder
        if not self._visits:
            with contextlib.suppress(StoreUnavailableError):
                self._storage.call(How.ALONE, lambda link: drop_member(link, holder))
        self._leave()

    def _leave(self) -> None:
        self._storage.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    def _call(self, how: How, work: Callable[[Link], T]) -> T:
        self._refuse_closed()
        try:
            if self._adrift:
                self._rejoin()
            result = self._storage.call(how, work)
        except StoreUnavailableError as error:
            self._watches.forget()
            self._patience.failed()
            if isinstance(error, StorageReplacedError):
                self._rejoin()
            raise
        self._patience.answered(self._clock.boot())
        return result

    def _ask(self, how: How, work: Callable[[Link], T]) -> T:
        """Do what the application asks for; what the loop ought to tell is raised there again."""
        try:
            return self._call(how, work)
        except StorageReplacedError as error:
            self._untold = error
            raise

    def _refuse_closed(self) -> None:
        if self._key is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")

    def _rejoin(self) -> None:
        """Go on with the storage that is there now; until that has worked, each call begins so."""
        self._adrift = False
        try:
            self._storage.open()
            if not self._visits:
                self._passed += self.sync(self._here.definitions).passed
        except BaseException:
            self._adrift = True
            raise

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, Definition]) -> Synced:
        """Make rows for this process's config tasks, and keep *definitions* to plan with."""
        self._refuse_closed()
        held = dict(definitions)
        config = config_of(held)
        synced = self._call(How.ALONE, lambda link: self._sync(link, self._holding(held), config))
        self._here, self._config = self._holding(held), config
        self._deploys.begin(synced.superseded)
        return synced

    def _holding(self, definitions: Mapping[str, Definition]) -> Here:
        scopes = {Scope.FLEET, *(one.scope for one in definitions.values())}
        places = frozenset(place_of(scope, self._here.member) for scope in scopes)
        return self._here._replace(definitions=definitions, places=places)

    def _sync(self, link: Link, here: Here, config: Config) -> Synced:
        wall, boot = link.now(), self._clock.boot()
        save_member(link, here.member, config.key, wall=wall, boot=boot)
        add_config(link, config)
        live = read_live(link, here.member, wall=wall, boot=boot)
        standing = read_standing(link, [(one.config, one.member) for one in live])
        return sync_rows(link, here, standing, wall)

    def add(self, addition: Addition, *, replace: bool = False) -> Sequence[Run]:
        """Keep a task of the fleet that every process may run, until it is removed."""
        here = self._here_now()
        return self._ask(How.ALONE, lambda link: add_task(link, here, addition, replace=replace))

    def remove(self, name: str) -> None:
        """Put a task away that was added; what waits ends, what is held goes on."""
        self._ask(How.ALONE, lambda link: remove_task(link, name))

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task, in all its places; what passed while paused is missed."""
        self._ask(How.ALONE, lambda link: pause_rows(link, name, paused=paused, now=link.now()))

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name and place."""
        return self._ask(How.READ, read_states)

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and open at most *limit* runs for this process."""
        here, boot = self._here_now(), self._clock.boot()
        patient = self._patience.lasts(boot)
        reading = self._call(How.READ, lambda link: self._plan(link, here, limit, patient=patient))
        now = reading.now
        if limit <= 0 or not reading.is_work():
            return Claimed((), (), now, reading.wake_at, reading.unplanned)
        won = self._claim(here, reading, boot)
        self._contested = STAY_ASIDE if won.contested else max(0, self._contested - 1)
        claims = claims_of(reading, won.runs, boot + here.member.lease_us)
        return Claimed(claims, won.passed, now, won.wake_at, reading.unplanned, won.given_up)

    def _plan(self, link: Link, here: Here, limit: int, *, patient: bool) -> Reading:
        spread = pages_for(self._company) * limit if self._contested else 0
        look = self._storage.look(link, here, limit, spread=spread)
        return plan_due(here, look, limit, patient=patient)

    def _here_now(self) -> Here:
        self._refuse_closed()
        return self._here

    def _claim(self, here: Here, reading: Reading, boot: Span) -> Won:
        try:
            return self._call(How.WRITE, lambda link: write_claims(link, here, reading, boot=boot))
        except AlreadyThereError:
            # Some tick has run although its row's cursor stands before it, as after a restore.
            return self._call(
                How.WRITE, lambda link: write_claims(link, here, reading, boot=boot, wary=True)
            )

    # Runs --------------------------------------------------------------------------------

    def finish(self, endings: Sequence[Ending]) -> list[Finished]:
        """Record how runs ended, and tell what became of each."""
        if not endings:
            return []
        if all_end(endings):
            return self._call(How.ONCE, lambda link: end_runs(link, endings))
        return self._call(How.WRITE, lambda link: finish_runs(link, endings))

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress; False stands where the claim was lost."""
        if not claims:
            return []
        boot = self._clock.boot()
        return self._call(How.ONCE, lambda link: renew_runs(link, claims, boot))

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Open an unheld manual run of a task, due now; None when overlap refuses it."""
        here = self._here_now()
        return self._ask(How.WRITE, lambda link: trigger_run(link, here, name, body=body))

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        return self._ask(How.READ, lambda link: newest_runs(link, task=task, limit=limit))

    # Staying alive -----------------------------------------------------------------------

    def beat(self) -> Beat:
        """Record that this process lives, and put right what others have left behind."""
        here, boot = self._here_now(), self._clock.boot()
        untold, self._untold = self._untold, None
        if untold is not None:
            raise untold
        found = self._call(How.READ, lambda link: self._look(link, here, boot))
        if self._was_dropped(found):
            self._passed += self.sync(here.definitions).passed
        due = boot - self._seen_at >= here.member.lease_us // 3
        if not (due or found.lost or found.gone or self._deploys.has_work()):
            return Beat((), (), self._deploys.superseded, found.look_at, self._told(()))
        abandoned, settled = self._call(How.ALONE, lambda link: self._put_right(link, here, found))
        self._seen_at = boot
        archived, superseded = settled.archived, self._deploys.superseded
        return Beat(abandoned, archived, superseded, found.look_at, self._told(settled.passed))

    def _told(self, passed: Sequence[Run]) -> Sequence[Run]:
        told, self._passed = [*self._passed, *passed], []
        return told

    def _look(self, link: Link, here: Here, boot: Span) -> Findings:
        found = self._watches.look(link, here.member, boot)
        self._deploys.look(link, here, found.live, boot)
        self._company = len(found.live)
        return found

    def _was_dropped(self, found: Findings) -> bool:
        holder = self._here.member.holder
        return all(one.member.holder != holder for one in found.live)

    def _put_right(self, link: Link, here: Here, found: Findings) -> tuple[list[Run], Settled]:
        now = link.now()
        self._save(link)
        abandoned = abandon_runs(link, found.lost, now)
        for one in found.gone:
            drop_member(link, one.member.holder)
        settled = self._deploys.settle(link, here, now)
        trim_old(link, now - self._keep_for)
        forget_archived(link, now - self._keep_for)
        return abandoned, settled

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
        here, boot = self._here_now().member, self._clock.boot()
        live = self._ask(How.READ, lambda link: read_live(link, here, wall=link.now(), boot=boot))
        return [one.member for one in live]
