"""The arguments of the handle, and what its calls report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pulse import PulseMiddleware, Task, events
from pulse.clock import instant_of, moment_of
from pulse.errors import ConfigError, TravelError, UnknownRunError, UnknownTaskError
from pulse.testing import travel
from pulse.testing.recorder import Recorder
from tests.unit.test_middleware import echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.handle.handle import SchedulerHandle

REPORT = Task(action="/report", interval=60)


class Site:
    """A site whose handle is called, and the events of its calls."""

    def __init__(self, handle: SchedulerHandle, seen: Recorder) -> None:
        self.handle = handle
        self.seen = seen

    def last(self) -> events.Event:
        """Return the newest event."""
        return self.seen.events[-1]


@pytest.fixture
def site() -> Iterator[Site]:
    """Return a site with one task."""
    app = PulseMiddleware(echo, tasks={"work": Task(action="/work", interval="1h")})
    with travel(app) as clock:
        yield Site(clock.scheduler, Recorder(app.bus))


def test_call_of_the_handle_is_an_event_with_who_asked(site: Site) -> None:
    """Each change of a person names the person, if the view has passed a name."""
    site.handle.pause("work", by="ann")
    site.handle.resume("work", by="ann")
    run = site.handle.trigger("work", by="ann")
    site.handle.add("report", REPORT, by="ann")
    site.handle.remove("report", by="ann")
    assert site.seen.events == [
        events.TaskPaused("work", "ann"),
        events.TaskResumed("work", "ann"),
        events.TaskTriggered("work", run, "ann"),
        events.TaskAdded("report", replace=False, by="ann"),
        events.TaskRemoved("report", "ann"),
    ]


def test_refused_trigger_is_an_event_without_a_run(site: Site) -> None:
    """A manual run is unfinished, so the overlap policy refuses the next one."""
    site.handle.trigger("work")
    assert site.handle.trigger("work") is None
    assert site.last() == events.TaskTriggered("work", None)


def test_pause_may_have_an_end_and_a_note(site: Site) -> None:
    """Both are shown and logged."""
    until = datetime(2126, 1, 5, tzinfo=UTC)
    site.handle.pause("work", until=until, note="release", by="anna")
    assert site.last() == events.TaskPaused("work", "anna", instant_of(until), "release")
    (state,) = site.handle.tasks()
    assert state.pause is not None
    assert (state.pause.until, state.pause.note) == (instant_of(until), "release")


def test_by_may_be_none(site: Site) -> None:
    """A view passes the name of the user, who may be unknown."""
    site.handle.pause("work", by=None)
    assert site.last() == events.TaskPaused("work", "")


def test_call_that_fails_is_no_event(site: Site) -> None:
    """Nothing was done."""
    for call in (site.handle.pause, site.handle.resume, site.handle.trigger, site.handle.remove):
        with pytest.raises(UnknownTaskError):
            call("other")
    assert site.seen.events == []


WRONG = [
    pytest.param("pause", ("work",), {"by": 7}, "by: expected text", id="by"),
    pytest.param("pause", ("work",), {"by": "a" * 201}, "by: expected at most 200", id="long by"),
    pytest.param(
        "pause", ("work",), {"by": "\ud800"}, "by: expected text without", id="by \\ud800"
    ),
    pytest.param("runs", (), {"holder": "\ud800"}, "holder: expected text", id="holder \\ud800"),
    pytest.param("run", ("\ud800",), {}, "run: expected a run", id="ident \\ud800"),
    pytest.param("pause", ("work",), {"note": 7}, "note: expected text, got 7", id="note"),
    pytest.param("pause", ("work",), {"until": 7}, "until: expected a datetime", id="until"),
    pytest.param(
        "pause",
        ("work",),
        {"until": datetime(2020, 1, 1, tzinfo=UTC)},
        "until: expected an instant after",
        id="past until",
    ),
    pytest.param("trigger", ("work",), {"body": 7}, "body: expected text or bytes", id="body"),
    pytest.param("add", ("a", REPORT), {"replace": "no"}, "replace: expected True", id="replace"),
    pytest.param("runs", (), {"limit": 0}, "limit: expected a whole number from 1", id="limit 0"),
    pytest.param("runs", (), {"limit": -1}, "limit: expected a whole number", id="limit -1"),
    pytest.param("runs", (), {"limit": None}, "limit: expected a whole number", id="no limit"),
    pytest.param("runs", (), {"limit": True}, "limit: expected a whole number", id="limit True"),
    pytest.param("runs", (), {"outcomes": "failed"}, "outcomes: expected a coll", id="outcomes"),
    pytest.param("runs", (), {"outcomes": 7}, "outcomes: expected a collection", id="outcomes 7"),
    pytest.param("runs", (), {"outcomes": ["fail"]}, "outcomes: .* mean 'failed'", id="no outcome"),
    pytest.param("runs", (), {"trigger": "cron"}, "trigger: expected one of", id="trigger"),
    pytest.param("runs", (), {"holder": 7}, "holder: expected text", id="holder"),
    pytest.param("runs", (), {"since": 7}, "since: expected a datetime with", id="since"),
    pytest.param(
        "runs",
        (),
        {"until": datetime(2026, 1, 5)},  # noqa: DTZ001 - without a zone
        "until: expected a datetime with a time zone",
        id="naive until",
    ),
    pytest.param("runs", (), {"before": "x"}, "before: expected a whole number", id="before"),
    pytest.param("run", (7,), {}, "run: expected a run or the id of one", id="ident"),
    pytest.param("stop", (7,), {}, "run: expected a run or the id of one", id="stop"),
    pytest.param("stop", ("0" * 32,), {"note": 7}, "note: expected text", id="note of a stop"),
    pytest.param("wait", (7,), {}, "run: expected a run or the id of one", id="wait"),
    pytest.param("wait", ("0" * 32,), {"timeout": "x"}, "timeout: expected seconds", id="timeout"),
    pytest.param("pause_all", (), {"by": 7}, "by: expected text", id="by of a pause of all"),
]


@pytest.mark.parametrize(("verb", "positional", "named", "problem"), WRONG)
def test_wrong_argument_is_refused_with_its_name(
    site: Site, verb: str, positional: tuple[object, ...], named: dict[str, object], problem: str
) -> None:
    """It would be ignored, or fail somewhere in the store."""
    with pytest.raises(ConfigError, match=problem):
        getattr(site.handle, verb)(*positional, **named)
    assert site.seen.events == []


@pytest.mark.parametrize("name", [7, b"work", ["work"], "w\udcffrk"], ids=repr)
def test_runs_of_what_cannot_be_a_task_are_refused(site: Site, name: object) -> None:
    """No store can look it up."""
    with pytest.raises(UnknownTaskError, match="name: expected the name of a task"):
        site.handle.runs(task=name)


def test_filters_of_runs_are_combined(site: Site) -> None:
    """Aware datetimes, and words for what is an enum inside."""
    run = site.handle.trigger("work")
    assert run is not None
    now = moment_of(run.fire_time)
    found = site.handle.runs(
        outcomes=["pending"], trigger="manual", since=now, until=now + timedelta(seconds=1)
    )
    assert [one.id for one in found] == [run.id]
    assert [*site.handle.runs(until=now)] == []
    assert site.handle.run(run.id) == run


def test_page_leads_to_the_next_one(site: Site) -> None:
    """A page is a sequence of runs, with the cursor of the next page."""
    site.handle.trigger("work")
    page = site.handle.runs(limit=1)
    assert (len(page), page[0].task, page.cursor) == (1, "work", None)
    assert [*page[:1]] == [*page]
    assert repr(page).startswith("RunPage([Run(")


def test_limit_may_be_a_text(site: Site) -> None:
    """A query argument is one."""
    site.handle.trigger("work")
    assert len(site.handle.runs(limit="5")) == 1


def test_pause_of_all_tasks_has_its_own_verbs(site: Site) -> None:
    """An empty name is no task, and pauses nothing."""
    site.handle.pause_all(by="anna", note="release")
    assert site.last() == events.TaskPaused("", "anna", None, "release")
    pause = site.handle.pause_of_all()
    assert pause is not None
    assert (pause.by, pause.note) == ("anna", "release")
    site.handle.resume_all(by="otto")
    assert site.last() == events.TaskResumed("", "otto")
    assert site.handle.pause_of_all() is None
    with pytest.raises(UnknownTaskError):
        site.handle.pause("")
    with pytest.raises(UnknownTaskError):
        site.handle.resume("")
    assert site.handle.pause_of_all() is None


def test_one_task_is_shown_by_its_name(site: Site) -> None:
    """An unknown name is refused, with a similar one."""
    assert site.handle.task("work").settings["action"] == "/work"
    with pytest.raises(UnknownTaskError, match="got 'wrok'; did you mean 'work'"):
        site.handle.task("wrok")


def test_stopped_run_is_an_event(site: Site) -> None:
    """A run that no process has begun ends at once; it may be given by its id."""
    run = site.handle.trigger("work")
    assert run is not None
    stopped = site.handle.stop(run.id, by="anna", note="too early")
    assert (stopped.outcome, stopped.message) == ("interrupted", "stopped by anna: too early")
    assert site.last() == events.RunStopped(stopped, "anna", "too early")
    assert site.handle.stop(stopped) == stopped
    assert site.handle.wait(stopped) == stopped


def test_wait_in_virtual_time_is_refused(site: Site) -> None:
    """Nobody would move the clock meanwhile."""
    run = site.handle.trigger("work")
    assert run is not None
    assert site.handle.wait(run, timeout=0) == run
    with pytest.raises(TravelError, match="move the clock instead"):
        site.handle.wait(run)
    with pytest.raises(UnknownRunError):
        site.handle.wait("0" * 32)


def test_old_runs_are_counted_or_deleted_with_an_event(site: Site) -> None:
    """Each step reports its progress; wrong arguments are refused by their names."""
    run = site.handle.trigger("work")
    assert run is not None
    site.handle.stop(run)
    steps: list[int] = []
    words = {"older": 0, "task": "work", "outcomes": ["interrupted"]}
    assert site.handle.prune(**words, dry_run=True, progress=steps.append) == 1
    assert list(site.handle.runs()) != []
    assert site.handle.prune(**words, by="anna", progress=steps.append) == 1
    assert steps == [1, 1]
    assert list(site.handle.runs()) == []
    note = "interrupted runs older than 0s"
    assert site.last() == events.RunsDeleted(1, "work", "anna", note)
    with pytest.raises(ConfigError, match="older: expected"):
        site.handle.prune(older="soon")
    with pytest.raises(ConfigError, match="outcomes: expected"):
        site.handle.prune(older=1, outcomes=["lost"])
