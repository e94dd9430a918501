"""The faults that a site with Celery workers has to survive, on each broker: `make test-celery`."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from signal import SIGCONT, SIGHUP, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM
from typing import TYPE_CHECKING, Any

import pytest

from pulse.carrier.base import CarrierSetup, Parcel
from pulse.celery.carrier import make_carrier
from pulse.clock import SECOND
from pulse.config.loader import load
from pulse.core.run import Outcome
from tests.support.broker_proxy import BrokerProxy, Mode
from tests.support.brokers import RabbitMQ, RedisBroker, purge
from tests.support.celery_site import EACH_SECOND, CelerySite, children_of
from tests.support.probe_log import overlapping, read_notes
from tests.support.servers import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.probe_log import Note

    MakeSite = Callable[..., CelerySite]

pytestmark = [pytest.mark.server, pytest.mark.broker]

BROKERS = ["rabbitmq", "redis"]
NAP = {"action": "nap?4", "interval": "2s", "timeout": "60s"}
RERUN = NAP | {"on_abandoned": "rerun"}
LEASE_S = 3.0
LOST = "does not answer: nothing is posted until it does"
SOON_AFTER_BROKER_S = 10.0
PAGE_S = 1.0
"""How long a page may take on a busy machine; `bench/celery_workers.py` measures it."""

SOON_S = 2.0
"""Within what time after the death of a process on the same host its run is taken from it."""


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    """Return the name of a broker."""
    return str(request.param)


@pytest.fixture
def vhost(request: pytest.FixtureRequest, broker: str) -> str:
    """Return the URL of an empty place of the broker."""
    return str(request.getfixturevalue(f"{broker}_vhost"))


@pytest.fixture
def make_site(request: pytest.FixtureRequest, tmp_path: Path, broker: str) -> Iterator[MakeSite]:
    """Return a function that makes the site of a test; its processes end after the test."""
    made: list[CelerySite] = []

    def make(*, worker_broker: str = "", **settings: Any) -> CelerySite:
        vhost = request.getfixturevalue(f"{broker}_vhost")
        if worker_broker:
            settings["web_broker"] = vhost
        site = CelerySite(
            tmp_path,
            broker=worker_broker or vhost,
            store=f"sqlite:///{tmp_path}/pulse.db",
            **settings,
        )
        made.append(site)
        return site

    yield make
    for site in made:
        for server in site.servers:
            server.close()


class StoppableBroker:
    """A broker that a test stops and starts."""

    def __init__(self, broker: RabbitMQ | RedisBroker) -> None:
        self._broker = broker

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let the broker accept no connection during a `with` block."""
        if isinstance(self._broker, RedisBroker):
            self._broker.stop()
        else:
            self._broker.stop_app()
        yield
        self._broker.start()


def broker_of(request: pytest.FixtureRequest) -> StoppableBroker:
    """Return the broker of a test."""
    name = {"rabbitmq": "rabbitmq", "redis": "redis_broker"}[request.getfixturevalue("broker")]
    return StoppableBroker(request.getfixturevalue(name))


def in_progress(site: CelerySite, task: str) -> Note:
    """Return the note of a run that has begun and not ended, once there is one."""

    def running() -> list[Note]:
        ended = {one.run for one in site.notes("end", task)}
        return [one for one in site.notes(task=task) if one.run not in ended]

    return site.wait_for(running, f"a run of {task} in progress")[-1]


def since(instant: float, site: CelerySite, task: str) -> list[Note]:
    """Return the runs of a task that began after an instant."""
    return [one for one in site.notes(task=task) if one.at > instant]


def test_parcel_that_comes_five_times_is_executed_once(make_site: MakeSite) -> None:
    """Two workers of three children get five copies each: one is executed, four are refused."""
    site = make_site(slots=3, environ={"COPIES": "5"})
    with site.serving(workers=2) as (web, workers):
        site.await_notes(10)
        web.stop()
        executed = {one.run for one in site.notes()}
        refused = lambda: sum(one.log_text().count("not run, its claim") for one in workers)  # noqa: E731
        site.wait_for(lambda: refused() == 4 * len({one.run for one in site.notes()}), "refusals")
    assert site.twice() == []
    assert len(executed) >= 10


@pytest.mark.parametrize("pool", ["prefork", "gevent", "threads"])
def test_killed_process_loses_its_run_at_once(make_site: MakeSite, pool: str) -> None:
    """The run is abandoned within two seconds, and the next one is executed."""
    site = make_site(pool=pool, tasks={"naps": NAP})
    with site.serving() as (_, (worker,)):
        note = in_progress(site, "naps")
        os.kill(note.pid, SIGKILL)
        killed = time.time()
        run = site.await_run("naps", Outcome.ABANDONED, within=SOON_S)
        assert run.id == note.run
        if note.pid == worker.pid:
            site.start_worker()
        site.wait_for(lambda: since(killed, site, "naps"), "the next run")
    assert site.twice() == []


@pytest.mark.parametrize("late", ["", "1"], ids=["early acks", "late acks"])
def test_killed_process_loses_its_run_to_a_second_attempt(make_site: MakeSite, late: str) -> None:
    """With `on_abandoned = rerun` each attempt is executed once, redelivered or not."""
    site = make_site(tasks={"naps": RERUN}, environ={"LATE_ACKS": late}, shop=True)
    with site.serving() as (_, (worker,)):
        note = in_progress(site, "naps")
        os.kill(note.pid, SIGKILL)
        killed = time.time()
        again = site.wait_for(lambda: since(killed, site, "naps"), "the second attempt")[0]
        assert again.run == note.run
        assert again.at - killed < SOON_S + 1
        run = site.await_run("naps", Outcome.SUCCEEDED)
    assert (run.id, run.attempt) == (note.run, 2)
    assert len([one for one in site.notes() if one.run == note.run]) == 2
    del worker


def test_killed_worker_is_replaced_by_another(make_site: MakeSite) -> None:
    """After the death of all its processes the next run begins within five seconds."""
    site = make_site(tasks={"naps": NAP})
    with site.serving(workers=2) as (_, workers):
        note = in_progress(site, "naps")
        (worker,) = [one for one in workers if note.pid in one.family()]
        for pid in worker.family():
            os.kill(pid, SIGKILL)
        killed = time.time()
        site.wait_for(lambda: since(killed, site, "naps"), "the next run", within=5)
    assert site.twice() == []


def test_killed_main_process_takes_its_children_with_it(make_site: MakeSite) -> None:
    """No orphan goes on; the run is abandoned, and another worker executes the next one."""
    site = make_site(tasks={"naps": NAP})
    with site.serving(workers=2) as (_, workers):
        note = in_progress(site, "naps")
        (worker,) = [one for one in workers if note.pid in one.family()]
        os.kill(worker.pid, SIGKILL)
        killed = time.time()
        site.wait_for(lambda: not is_alive(note.pid), "the end of the child", within=SOON_S)
        run = site.await_run("naps", Outcome.ABANDONED, within=5)
        site.wait_for(lambda: since(killed, site, "naps"), "the next run", within=10)
    assert run.id == note.run


def test_killed_web_processes_leave_their_posted_runs(make_site: MakeSite) -> None:
    """A run in progress ends, and a posted one is executed, with no web process alive."""
    site = make_site(slots=1, tasks={"naps": NAP, "waits": NAP | {"interval": "1s"}})
    with site.serving() as (web, _):
        note = in_progress(site, "naps") if site.notes(task="naps") else in_progress(site, "waits")
        site.wait_for(
            lambda: [run for run in site.runs() if run.holder == "@queue"], "a posted run"
        )
        waiting = [run.id for run in site.runs() if run.holder == "@queue"]
        for pid in web.family():
            os.kill(pid, SIGKILL)
        assert waiting
        ended = lambda: {run.id for run in site.runs() if run.outcome is Outcome.SUCCEEDED}  # noqa: E731
        site.wait_for(lambda: {note.run, *waiting} <= ended(), "the ends of all runs")
    assert site.twice() == []


def test_web_processes_stop_without_waiting_for_runs(make_site: MakeSite) -> None:
    """Their stop takes less than two seconds; the run in progress ends and is recorded."""
    site = make_site(tasks={"naps": NAP})
    with site.serving() as (web, _):
        note = in_progress(site, "naps")
        began = time.monotonic()
        web.stop(SIGTERM)
        took = time.monotonic() - began
        run = site.await_run("naps", Outcome.SUCCEEDED)
    assert took < SOON_S
    assert run.id == note.run


def test_run_that_no_worker_takes_is_missed_and_refused_later(make_site: MakeSite) -> None:
    """Its wait is three seconds; then it is on record, and a worker that comes refuses it."""
    site = make_site(wait="3s", tasks={"naps": NAP})
    with site.cleaned_up():
        site.start_web()
        began = time.time()
        run = site.await_run("naps", Outcome.MISSED)
        took = time.time() - began
        assert run.message == "no worker took it within 3s (queue pulse)"
        worker = site.start_worker()
        site.await_notes(1)
        del worker
    assert took < 2 + 3 + LEASE_S + 5
    assert run.id not in {one.run for one in site.notes()}
    assert site.twice() == []


def test_purged_queue_costs_one_run(
    make_site: MakeSite, request: pytest.FixtureRequest, broker: str
) -> None:
    """The run whose message is lost is missed after its wait; the next tick is executed."""
    vhost = request.getfixturevalue(f"{broker}_vhost")
    site = make_site(wait="3s", tasks={"naps": NAP | {"action": "quick"}})
    with site.cleaned_up():
        site.start_web()
        site.wait_for(
            lambda: [run for run in site.runs() if run.holder == "@queue"], "a posted run"
        )
        assert purge(vhost, "pulse") == 1
        site.start_worker()
        run = site.await_run("naps", Outcome.MISSED, within=15)
        site.wait_for(lambda: since(time.time() - 5, site, "naps"), "the next run")
    assert run.id not in {one.run for one in site.notes()}


def test_stop_of_a_worker_waits_for_its_runs(make_site: MakeSite) -> None:
    """SIGTERM lets the run in progress end."""
    site = make_site(tasks={"naps": NAP})
    with site.serving() as (_, (worker,)):
        note = in_progress(site, "naps")
        worker.stop(SIGTERM, timeout=30)
        run = site.await_run("naps", Outcome.SUCCEEDED, within=5)
    assert run.id == note.run


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_quick_stop_of_a_worker_interrupts_its_runs(make_site: MakeSite, pool: str) -> None:
    """SIGQUIT interrupts the run, which is recorded so."""
    site = make_site(pool=pool, tasks={"naps": NAP | {"action": "nap?30"}})
    with site.serving() as (_, (worker,)):
        note = in_progress(site, "naps")
        worker.signal(SIGQUIT)
        run = site.await_run("naps", Outcome.INTERRUPTED, within=10)
    assert run.id == note.run


def test_child_of_a_slow_application_is_replaced(make_site: MakeSite) -> None:
    """An application that takes 8 s to load is loaded again after its child was killed."""
    site = make_site(slots=1, tasks={"naps": NAP}, environ={"LOAD_S": "8"})
    with site.serving() as (_, (worker,)):
        note = in_progress(site, "naps")
        os.kill(note.pid, SIGKILL)
        killed = time.time()
        site.wait_for(lambda: since(killed, site, "naps"), "the next run", within=25)
        assert children_of(worker) != [note.pid]


def test_worker_with_another_configuration_leaves_runs_to_the_one_that_fits(
    make_site: MakeSite,
) -> None:
    """The old worker says so once, and no run is lost."""
    site = make_site(tasks={"now": EACH_SECOND})
    with site.cleaned_up():
        old = site.start_worker("-n", "old@%h", now=EACH_SECOND | {"timeout": "7s"})
        site.await_worker(old)
        site.start_web()
        site.wait_for(lambda: "left to a worker with" in old.log_text(), "the old worker leaves it")
        time.sleep(3)  # the message goes around meanwhile
        assert site.notes() == []
        site.start_worker("-n", "new@%h")
        site.await_notes(5)
        assert old.log_text().count("left to a worker with") == 1
        outcomes = {run.outcome for run in site.runs() if run.outcome is not None}
    assert outcomes <= {Outcome.SUCCEEDED, Outcome.SKIPPED}
    assert site.twice() == []


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_stopped_broker_costs_no_run(
    make_site: MakeSite, request: pytest.FixtureRequest, pool: str
) -> None:
    """After eight seconds runs go on within ten; none fails, and none is executed twice.

    Meanwhile the health of the fleet names the broker.
    """
    site = make_site(pool=pool)
    with site.serving() as (web, _):
        site.await_notes(3)
        with broker_of(request).stopped():
            site.wait_for(lambda: web.log_text().count(LOST), "the loss of the broker")
            lost = time.monotonic()
            site.wait_for(lambda: "broker" in site.problems(), "a report of the broker")
            time.sleep(max(0, lost + 8 - time.monotonic()))
        back = time.time()
        site.wait_for(lambda: since(back, site, "now"), "a run", within=SOON_AFTER_BROKER_S)
        site.wait_for(lambda: "broker" not in site.problems(), "the end of that report")
        lines = web.log_text().count(LOST)
        outcomes = {run.outcome for run in site.runs() if run.outcome is not None}
    assert lines <= 2  # one for each process
    assert outcomes <= {Outcome.SUCCEEDED, Outcome.SKIPPED, Outcome.MISSED}
    assert site.twice() == []


@pytest.mark.parametrize("mode", ["deaf", "stall", "cut"])
def test_broker_that_cannot_be_asked_costs_no_run(
    make_site: MakeSite, request: pytest.FixtureRequest, broker: str, mode: str
) -> None:
    """Publishing ends within ten seconds, pages are served meanwhile, and runs go on after it."""
    vhost = request.getfixturevalue(f"{broker}_vhost")
    with BrokerProxy(vhost) as proxy:
        site = make_site(web_broker=proxy.url)
        with site.serving() as (web, _):
            site.await_notes(3)
            proxy.switch(Mode(mode))
            began = time.monotonic()
            site.wait_for(lambda: web.log_text().count(LOST), "the loss", within=11)
            slowest = 0.0
            while time.monotonic() < began + 12:
                asked = time.monotonic()
                assert web.get("/").status == 200
                slowest = max(slowest, time.monotonic() - asked)
            proxy.switch(Mode.PASS)
            back = time.time()
            site.wait_for(lambda: since(back, site, "now"), "a run", within=SOON_AFTER_BROKER_S)
            outcomes = {run.outcome for run in site.runs() if run.outcome is not None}
    assert slowest < PAGE_S
    assert outcomes <= {Outcome.SUCCEEDED, Outcome.SKIPPED, Outcome.MISSED}
    assert site.twice() == []


def test_redelivery_during_a_run_is_refused(
    make_site: MakeSite, request: pytest.FixtureRequest, broker: str
) -> None:
    """A message that comes again while its run goes on is refused: late acks, and no heartbeat.

    Redis delivers again after the visibility timeout of 3 s; RabbitMQ when the connection of the
    worker is lost.
    """
    task = {"action": "nap?12", "interval": "20s", "timeout": "60s"}
    vhost = request.getfixturevalue(f"{broker}_vhost")
    with BrokerProxy(vhost) as proxy:
        site = make_site(
            shop=True, worker_broker=proxy.url, tasks={"naps": task}, environ={"LATE_ACKS": "1"}
        )
        with site.serving(workers=2):
            note = in_progress(site, "naps")
            if broker == "rabbitmq":
                proxy.switch(Mode.CUT)
                proxy.switch(Mode.PASS)
            site.wait_for(lambda: "not run, its claim" in site.log_text(), "a refusal")
            run = site.await_run("naps", Outcome.SUCCEEDED)
    assert run.id == note.run
    assert site.twice() == []


def test_native_code_that_lets_no_thread_go_on_is_killed(make_site: MakeSite) -> None:
    """Two seconds after its timeout; nobody can record that, so the run is abandoned."""
    task = {"action": "stuck?20", "interval": "1s", "timeout": "1s"}
    site = make_site(tasks={"stuck": task}, lease="10s")
    with site.serving():
        first = site.await_notes(1)[0]
        run = site.await_run("stuck", Outcome.ABANDONED, within=8)
        site.wait_for(lambda: len(site.notes()) > 1, "the next run", within=10)
    assert run.id == first.run
    assert not is_alive(first.pid)
    assert site.notes("end") == []


def test_forged_messages_execute_nothing(make_site: MakeSite, vhost: str) -> None:
    """Neither another task as a run of this one, nor a run that another process executes."""
    site = make_site(tasks={"naps": NAP, "other": EACH_SECOND | {"interval": "1h"}}, slots=3)
    with site.serving():
        note = in_progress(site, "naps")
        (run,) = [one for one in site.runs("naps") if one.id == note.run]
        definitions = load(site.config, {}).tasks
        for task in ("naps", "other"):
            parcel = Parcel(
                run=run.id,
                attempt=run.attempt,
                task=task,
                poster=run.holder,
                digest=definitions[task].digest,
                timeout_us=60 * SECOND,
                wait_us=60 * SECOND,
            )
            with closing(make_carrier(CarrierSetup(broker=vhost))) as carrier:
                carrier.send(parcel, queue="pulse")
        site.wait_for(lambda: site.log_text().count("not run, its claim") >= 2, "two refusals")
        ended = site.await_run("naps", Outcome.SUCCEEDED)
    assert (ended.id, ended.holder) == (run.id, run.holder)
    assert site.twice() == []
    assert site.notes(task="other") == []


def test_worker_that_is_reloaded_goes_on(make_site: MakeSite) -> None:
    """SIGHUP lets Celery replace its own process."""
    site = make_site()
    with site.serving() as (_, (worker,)):
        site.await_notes(2)
        worker.signal(SIGHUP)
        reloaded = time.time()
        site.wait_for(lambda: worker.log_text().count(" ready.") > 1, "another start")
        site.wait_for(lambda: since(reloaded + 3, site, "now"), "a run")
    assert site.twice() == []


def test_suspended_worker_executes_both_attempts_and_records_the_second(
    make_site: MakeSite,
) -> None:
    """One process has both at once, as after a pause of its machine; none is left open."""
    site = make_site(pool="threads", tasks={"naps": RERUN | {"action": "nap?12"}}, lease="2s")
    with site.serving() as (_, (worker,)):
        note = in_progress(site, "naps")
        worker.signal(SIGSTOP)
        site.wait_for(lambda: pending_again(site, note), "the loss of the claim")
        worker.signal(SIGCONT)
        run = site.await_run("naps", Outcome.SUCCEEDED)
    assert (run.id, run.attempt) == (note.run, 2)


def pending_again(site: CelerySite, note: Note) -> bool:
    """Return whether a run was taken from its holder."""
    return any(run.id == note.run and run.attempts for run in site.runs())


KINDS = {
    "nap": ("sleeps", 8.0),
    "cpu": ("computes", 8.0),
    "native": ("native", 8.0),
    "swallow": ("swallows", 8.0),
}
PREFORK_S = {"nap": 1.0, "cpu": 1.0, "native": 2.5, "swallow": 2.5}


@pytest.mark.parametrize("pool", ["prefork", "gevent", "threads", "solo"])
@pytest.mark.parametrize("kind", KINDS)
def test_timeouts_depend_on_the_pool(make_site: MakeSite, pool: str, kind: str) -> None:
    """Prefork ends every run, gevent what waits, and threads and solo none; none runs beside it."""
    task = {"action": f"{kind}?8", "interval": "1s", "timeout": "1s"}
    site = make_site(pool=pool, tasks={"late": task})
    with site.serving():
        run = site.await_run("late", Outcome.TIMED_OUT, within=40)
        limit = (
            PREFORK_S[kind]
            if pool == "prefork"
            else 1.0
            if (pool, kind) == ("gevent", "nap")
            else 0
        )
        took = (run.took_us or 0) / 1e6
        if limit:
            assert limit - 0.1 <= took < limit + 0.7
        else:
            assert took > 2.5
        notes = read_notes(site.evidence)
    assert overlapping(notes) == []
