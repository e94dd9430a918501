"""A worker is suspended for two leases during runs, and another process takes them over."""

from __future__ import annotations

import os
import time
from signal import SIGCONT
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.evidence_site import Site
from tests.support.probe_log import Note, read_notes
from tests.support.redis_servers import empty_redis
from tests.support.servers import is_stopped
from tests.support.store_outages import Moved, read_history

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.core.run import Run

pytestmark = pytest.mark.server

LEASE_S = 1
TASKS = {
    "nap": {"action": "nap", "interval": "1h", "run_at_start": "true"},
    "held": {"action": "held", "interval": "1s"},
    "again": {"action": "again", "interval": "1s", "on_abandoned": "rerun"},
}
"""A call that is under way, and two that are not made yet, when the process is suspended."""


class Story(NamedTuple):
    """What was observed of the suspended worker, and of the process that took over."""

    first: int
    second: int
    resumed: float
    runs: dict[str, str]
    notes: list[Note]
    before: dict[str, Run]
    after: dict[str, Run]
    log: str

    def told(self, what: str, task: str) -> list[Note]:
        """Return the notes with a word about the run that the first worker had of a task."""
        run = self.runs[task]
        return [note for note in self.notes if note.run == run and note.what == what]


@pytest.fixture
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    """Return the observations on a store, under the worker class that the parameter names."""
    store, worker_class = request.param
    if store == "sqlite":
        word = Moved(tmp_path).word
    elif store == "redis":
        word = empty_redis().url
    else:
        cluster = request.getfixturevalue("postgres_cluster")
        cluster.forget_applications()
        word = cluster.url()
    return suspend(tmp_path, word, worker_class)


def suspend(folder: Path, word: str, worker_class: str) -> Story:
    """Suspend a worker between claim and dispatch, during a call; resume it later."""

    def site(**environ: str) -> Site:
        return Site(
            folder,
            [worker_class],
            store=word,
            workers=1,
            tasks=TASKS,
            environ=environ,
            lease=f"{LEASE_S}s",
        )

    one, other = site(STOPS="held again", NAP="3"), site()
    with one.serving():
        stop = one.await_notes("stops", of=1)[0]
        one.wait_for(lambda: is_stopped(stop.pid), 5, "the worker is suspended")
        try:
            with other.serving():
                abandoned = other.await_notes("abandoned", of=3)
                time.sleep(max(0.0, stop.at + 2 * LEASE_S - time.time()))
                before = {run.id: run for run in read_history(word)}
                resumed = time.time()
                os.kill(stop.pid, SIGCONT)
                one.await_notes("refused", of=3)
                other.wait_for(lambda: is_over(word, abandoned), 60, "the rerun is over")
                after = {run.id: run for run in read_history(word)}
        finally:
            os.kill(stop.pid, SIGCONT)
    return Story(
        first=stop.pid,
        second=abandoned[0].pid,
        resumed=resumed,
        runs={note.task: note.run for note in abandoned},
        notes=read_notes(one.evidence),
        before=before,
        after=after,
        log=one.log_text(),
    )


def is_over(word: str, notes: list[Note]) -> bool:
    """Return whether all the runs of the notes have an outcome."""
    ended = {run.id for run in read_history(word) if run.outcome is not None}
    return ended.issuperset(note.run for note in notes)


@pytest.mark.parametrize(
    "story",
    [("sqlite", "sync"), ("postgres", "gevent"), ("redis", "gthread")],
    ids=["sqlite-sync", "postgres-gevent", "redis-gthread"],
    indirect=True,
)
def test_suspended_worker_loses_its_runs_and_dispatches_none(story: Story) -> None:
    """Before its lease check it dispatches nothing, and after it its results are refused."""
    for task in ("held", "nap"):
        assert story.before[story.runs[task]].outcome == "abandoned"
        assert story.after[story.runs[task]] == story.before[story.runs[task]]
    assert story.told("begin", "held") == []
    assert [note.pid for note in story.told("begin", "again")] == [story.second]
    rerun = story.after[story.runs["again"]]
    assert (rerun.outcome, rerun.attempt) == ("succeeded", 2)
    assert [note.pid for note in story.told("begin", "nap")] == [story.first]
    (end,) = story.told("end", "nap")
    assert (end.pid, end.at > story.resumed) == (story.first, True)
    for task in story.runs:
        assert [note.pid for note in story.told("refused", task)] == [story.first]
    (line,) = [line for line in story.log.splitlines() if line.startswith("pulse: nap ")]
    assert "but its claim was lost" in line
