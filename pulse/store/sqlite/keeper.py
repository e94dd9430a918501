"""The keeper of the SQLite store: each call of the port as one read and one short write.

Leases and deploys lean on no wall clock: see `pulse.store.watch` and
`pulse.store.sqlite.configs`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar
from weakref import WeakValueDictionary

from pulse.clock import SECOND
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.policy import Scope
from pulse.store.base import Beat, Claimed, Reach
from pulse.store.decide import place_of
from pulse.store.sqlite.claims import Here, claims_of, read_due, write_claims
from pulse.store.sqlite.configs import UNKNOWN, add_config, config_of, read_standing
from pulse.store.sqlite.deploys import Deploys
from pulse.store.sqlite.file import FileReplacedError, SqliteFile
from pulse.store.sqlite.members import (
    Watches,
    abandon_runs,
    drop_member,
    read_live,
    save_member,
)
from pulse.store.sqlite.records import finish_runs, newest_runs, renew_runs, trim_old
from pulse.store.sqlite.schema import make_tables, prefix_of, read_version, refuse_other_version
from pulse.store.sqlite.tasks import (
    forget_archived,
    pause_rows,
    read_states,
    sync_rows,
    trigger_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from pulse.clock import Clock, Instant, Span
    from pulse.run import Claim, Ending, Finished, Run
    from pulse.store.base import Member, Synced, TaskState
    from pulse.store.sqlite.claims import Reading, Won
    from pulse.store.sqlite.configs import Config
    from pulse.store.sqlite.file import Link
    from pulse.store.sqlite.members import Findings
    from pulse.task import Definition

    Opened = MutableMapping[tuple[int, str, str], "SqliteStore"]

T = TypeVar("T")

DAY: Span = 86_400 * SECOND


class SqliteStore:
    """Lets all processes of a host agree through one SQLite file.

    Args:
        path: the file; it is made, readable by this user alone, where there is none.
        clock: tells what is due.
        name: `pulse.config.name`: applications of different names share a file unseen.
        keep_runs: about how many ended runs of each task are remembered.
        keep_for_us: how long they are remembered at most.
        patience_us: how long a call goes on trying while others hold the file locked.
        opened: what this process has open; a test in which one process plays many gives each its
            own.

    """

    reach = Reach.HOST
    blocking = True

    # Which files this process has open: the one fact here that no single store can know. It is
    # keyed by pid, so that a forked child begins with none.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock,
        *,
        name: str = "",
        keep_runs: int = 1_000,
        keep_for_us: Span = 30 * DAY,
        patience_us: Span = 5 * SECOND,
        opened: Opened | None = None,
    ) -> None:
        self.path: Path = Path(path)
        self.name: str = f"sqlite:///{self.path}"
        self._clock = clock
        self._space = name
        self._keep_runs = keep_runs
        self._keep_for = keep_for_us
        self._prefix = prefix_of(name)
        self._file = SqliteFile(self.path, prefix=self._prefix, patience_us=patience_us)
        self._key: tuple[int, str, str] | None = None
        self._visits = False
        self._opened = self._all_opened if opened is None else opened

    # Taking part -------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Take part as *member*; makes the file and its tables where they are not there yet."""
        key = self._key_here()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            raise StoreInUseError(
                f"{self.path} is open in this process already under the name {self._space!r};"
                " give each pulse its own pulse.config.name"
            )
        self._enter(key, member, visits=False)

    def visit(self, member: Member) -> None:
        """Reach the tables without a row among the members."""
        self._enter(self._key_here(), member, visits=True)

    def _key_here(self) -> tuple[int, str, str]:
        return os.getpid(), os.path.realpath(self.path), self._space

    def _enter(self, key: tuple[int, str, str], member: Member, *, visits: bool) -> None:
        self._key, self._visits = key, visits
        try:
            self._file.open()
            self._make_tables()
            self._begin(member)
        except BaseException:
            self._leave()
            raise

    def _make_tables(self) -> None:
        version = self._file.read(lambda link: read_version(link, self._prefix))
        if version is None:
            self._file.write(lambda link: make_tables(link, self._prefix))
            version = self._file.read(lambda link: read_version(link, self._prefix))
        refuse_other_version(self.path, version)

    def _begin(self, member: Member) -> None:
        self._config = UNKNOWN
        places = frozenset(place_of(scope, member) for scope in Scope) if self._visits else ()
        self._here = Here(member, self._space, {}, frozenset(places), self._keep_runs)
        self._watches = Watches(member.lease_us)
        self._deploys = Deploys(self._watches.unwanted)
        self._seen_at = self._clock.boot()
        if not self._visits:
            self._write(self._save)

    def _save(self, link: Link) -> None:
        wall, boot = self._clock.wall(), self._clock.boot()
        save_member(link, self._here.member, self._config.key, wall=wall, boot=boot)

    def close(self) -> None:
        """Take part no more; what cannot be written down now is found by the others."""
        if self._key is None:
            return
        holder = self._here.member.holder
        if not self._visits:
            with contextlib.suppress(StoreUnavailableError):
                self._file.write(lambda link: drop_member(link, holder))
        self._leave()

    def _leave(self) -> None:
        self._file.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    def _read(self, work: Callable[[Link], T]) -> T:
        return self._reach(self._file.read, work)

    def _write(self, work: Callable[[Link], T]) -> T:
        return self._reach(self._file.write, work)

    def _reach(self, call: Callable[[Callable[[Link], T]], T], work: Callable[[Link], T]) -> T:
        if self._key is None:
            raise StoreUnavailableError(f"{self.path}: the store is not open")
        try:
            return call(work)
        except StoreUnavailableError as error:
            self._watches.forget()
            if isinstance(error, FileReplacedError):
                self._rejoin()
            raise

    def _rejoin(self) -> None:
        """Go on with the file that is there now, as every process does that starts from now on."""
        self._file.open()
        self._make_tables()
        if not self._visits:
            self.sync(self._here.definitions)

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, Definition]) -> Synced:
        """Make rows for this process's config tasks, and keep *definitions* to plan with."""
        held = dict(definitions)
        config = config_of(held)
        synced = self._write(lambda link: self._sync(link, self._holding(held), config))
        self._here, self._config = self._holding(held), config
        self._deploys.begin(synced.superseded)
        return synced

    def _holding(self, definitions: Mapping[str, Definition]) -> Here:
        member = self._here.member
        places = frozenset(place_of(one.scope, member) for one in definitions.values())
        return Here(member, self._space, definitions, places, self._keep_runs)

    def _sync(self, link: Link, here: Here, config: Config) -> Synced:
        wall, boot = self._clock.wall(), self._clock.boot()
        save_member(link, here.member, config.key, wall=wall, boot=boot)
        add_config(link, config)
        live = read_live(link, here.member, wall=wall, boot=boot)
        standing = read_standing(link, [(one.config, one.member) for one in live])
        return sync_rows(link, here, standing, wall)

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task, in all its places; what passed while paused is missed."""
        now = self._clock.wall()
        self._write(lambda link: pause_rows(link, name, paused=paused, now=now))

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name and place."""
        return self._read(read_states)

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and open at most *limit* runs for this process."""
        boot, now = self._clock.boot(), self._clock.wall()
        here = self._here_now()
        reading = self._read(lambda link: read_due(link, here, now=now, limit=limit))
        if limit <= 0 or not reading.is_work():
            return Claimed((), (), now, reading.wake_at, reading.unplanned)
        won = self._claim(here, reading, now=now, boot=boot)
        claims = claims_of(here, won.runs, boot + here.member.lease_us)
        return Claimed(claims, won.passed, now, won.wake_at, reading.unplanned, won.given_up)

    def _here_now(self) -> Here:
        if self._key is None:
            raise StoreUnavailableError(f"{self.path}: the store is not open")
        return self._here

    def _claim(self, here: Here, reading: Reading, *, now: Instant, boot: Span) -> Won:
        try:
            return self._write(lambda link: write_claims(link, here, reading, now=now, boot=boot))
        except sqlite3.IntegrityError:
            # Some tick has run although its row's cursor stands before it, as after a restore.
            return self._write(
                lambda link: write_claims(link, here, reading, now=now, boot=boot, wary=True)
            )

    # Runs --------------------------------------------------------------------------------

    def finish(self, endings: Sequence[Ending]) -> list[Finished]:
        """Record how runs ended, and tell what became of each."""
        if not endings:
            return []
        now = self._clock.wall()
        return self._write(lambda link: finish_runs(link, endings, now))

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress; False stands where the claim was lost."""
        if not claims:
            return []
        boot = self._clock.boot()
        return self._write(lambda link: renew_runs(link, claims, boot))

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Open an unheld manual run of a task, due now; None when overlap refuses it."""
        here, now = self._here_now(), self._clock.wall()
        return self._write(lambda link: trigger_run(link, here, name, body=body, now=now))

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        return self._read(lambda link: newest_runs(link, task=task, limit=limit))

    # Staying alive -----------------------------------------------------------------------

    def beat(self) -> Beat:
        """Record that this process lives, and put right what others have left behind."""
        here, boot = self._here_now(), self._clock.boot()
        found = self._read(lambda link: self._look(link, here, boot))
        if self._was_dropped(found):
            self.sync(here.definitions)
        due = boot - self._seen_at >= here.member.lease_us // 3
        if not (due or found.lost or found.gone or self._deploys.has_work()):
            return Beat((), (), self._deploys.superseded, found.look_at)
        abandoned, archived = self._write(lambda link: self._put_right(link, here, found))
        self._seen_at = boot
        return Beat(abandoned, archived, self._deploys.superseded, found.look_at)

    def _look(self, link: Link, here: Here, boot: Span) -> Findings:
        found = self._watches.look(link, here.member, boot)
        self._deploys.look(link, here, found.live, boot)
        return found

    def _was_dropped(self, found: Findings) -> bool:
        holder = self._here.member.holder
        return all(one.member.holder != holder for one in found.live)

    def _put_right(
        self, link: Link, here: Here, found: Findings
    ) -> tuple[list[Run], tuple[str, ...]]:
        now = self._clock.wall()
        self._save(link)
        abandoned = abandon_runs(link, found.lost, now)
        for one in found.gone:
            drop_member(link, one.member.holder)
        archived = self._deploys.settle(link, here, now)
        trim_old(link, now - self._keep_for)
        forget_archived(link, now - self._keep_for)
        return abandoned, archived

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
        here, wall, boot = self._here_now().member, self._clock.wall(), self._clock.boot()
        live = self._read(lambda link: read_live(link, here, wall=wall, boot=boot))
        return [one.member for one in live]
