"""Runs in child processes: what is told of them, and how they end."""

from __future__ import annotations

import array
import fcntl
import json
import os
import sys
import termios
from pathlib import Path
from signal import SIGKILL, SIGRTMIN, SIGSTOP, SIGTERM
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome
from pulse.engine.base import EngineCallbacks
from pulse.engine.child_process import ChildLostError, ChildProcess, ChildStarter, find_python
from pulse.engine.child_protocol import ChildSetup, MiddlewareFingerprint
from pulse.engine.processes import ProcessEngine
from pulse.errors import EngineError
from pulse.testing.engine_harness import EngineHarness
from tests.support.claims import make_claim
from tests.support.forks import in_child, status_of
from tests.support.servers import is_alive, is_stopped, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.core.run import Claim, Result

    Begin = Callable[..., EngineHarness]

BARE = ChildSetup(
    application="tests.support.child_app:app", fingerprint=MiddlewareFingerprint(digest="inner")
)


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start engines with one slot each, and stop them after the test."""
    stages: list[EngineHarness] = []

    def start(setup: ChildSetup = BARE, **keywords: int) -> EngineHarness:
        engine = ProcessEngine(SystemClock(), child=setup, **keywords)
        stages.append(EngineHarness(engine, concurrency=1))
        return stages[-1]

    yield start
    for stage in stages:
        stage.engine.stop(0)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return what waits until the app has noted a word, and returns the process id beside it."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("NOTES", str(path))

    def find(word: str) -> int:
        lines = wait_until(
            lambda: [line for line in path.read_text().splitlines() if line.startswith(word)],
            what=f"the note {word}",
        )
        return int(lines[-1].split()[1])

    return find


def perform(stage: EngineHarness, path: str, **keywords: object) -> Result:
    """Return what comes of a claim on that path."""
    before = len(stage.completed)
    stage.submit(make_claim(action=path, **keywords))
    return stage.await_endings(before + 1)[-1].result


def look(stage: EngineHarness) -> dict[str, object]:
    """Return what the app sees."""
    return json.loads(perform(stage, "/look").message)


def open_files() -> list[str]:
    """Return the numbers of the files that this process has open."""
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def open_sockets() -> set[str]:
    """Return the numbers of the sockets that this process has open."""
    return {number for number in open_files() if Path("/proc/self/fd", number).is_socket()}


def unread(line: str) -> int:
    """Return how much that socket holds of what was sent and has not been read by its peer."""
    amount = array.array("i", [0])
    fcntl.ioctl(int(line), termios.TIOCOUTQ, amount)
    return amount[0]


def test_a_copy_in_a_forked_child_makes_no_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that goes on there finds its child gone, and gets no other."""
    nursery, adopted = ChildStarter(BARE, SystemClock()), []
    here = os.getpid()
    monkeypatch.setattr("os.getpid", lambda: here + 1)
    with pytest.raises(ChildLostError, match="forked child"):
        nursery.make(adopted.append)
    assert adopted == []


def test_a_fork_leaves_the_child_process_to_the_parent(begin: Begin) -> None:
    """The copy can neither answer for it nor end it, and holds none of its files."""
    stage = begin()
    first = perform(stage, "/pid").message

    def stop() -> bool:
        stage.engine.forked()
        stage.engine.stop(0)
        return True

    status = status_of(in_child(stop))
    assert (status, perform(stage, "/pid").message) == (0, first)


def test_an_app_that_forks_and_returns_in_both_processes_answers_once(
    begin: Begin, notes: Callable[[str], int], capfd: pytest.CaptureFixture[str]
) -> None:
    """What it says in the forked process is no answer, neither to this run nor to the next."""
    stage = begin()
    pids = {perform(stage, path).message for path in ("/fork", "/pid", "/pid")}
    offspring = notes("offspring")
    assert len(pids - {str(offspring)}) == len(pids) == 1
    wait_until(lambda: not is_alive(offspring), what="the forked process ends")
    assert capfd.readouterr() == ("", "")


def test_sigterm_ends_a_process_that_the_app_has_forked(
    begin: Begin, notes: Callable[[str], int]
) -> None:
    """It runs the handler of the child process, which waits for the parent's word."""
    stage = begin()
    stage.submit(make_claim(action="/forked-nap"))
    offspring = notes("offspring")
    os.kill(offspring, SIGTERM)
    wait_until(lambda: not is_alive(offspring), what="the forked process ends")
    assert stage.completed == []


def test_sigterm_right_after_a_fork_ends_the_process_that_the_app_has_forked(begin: Begin) -> None:
    """The new process may not have run any Python code when the signal arrives."""
    stage = begin()
    assert [perform(stage, "/signalled-fork").message for _ in range(5)] == [str(-SIGTERM)] * 5


def test_a_run_is_interrupted_in_the_child_process_alone(
    begin: Begin, notes: Callable[[str], int], tmp_path: Path
) -> None:
    """A process that the app has forked is ended by the same signal, as any process is."""
    result = perform(begin(), "/forked-nap", timeout=0.5)
    offspring, interrupted = notes("offspring"), notes("interrupted")
    wait_until(lambda: not is_alive(offspring), what="the forked process ends")
    lines = (tmp_path / "notes").read_text().splitlines()
    assert (result.outcome, interrupted != offspring) == (Outcome.TIMED_OUT, True)
    assert len([line for line in lines if line.startswith("interrupted")]) == 1


# What the app is and sees ------------------------------------------------------------------


def test_runs_happen_in_another_process_that_is_kept(begin: Begin) -> None:
    """Two runs that follow each other are performed by one child, which is not this process."""
    stage = begin()
    pids = [perform(stage, "/pid").message for _ in range(2)]
    assert pids[0] == pids[1] != str(os.getpid())


def test_a_claim_goes_to_the_slot_that_was_idle_last() -> None:
    """With two slots and one claim at a time there is one child."""
    stage = EngineHarness(ProcessEngine(SystemClock(), child=BARE), concurrency=2)
    pids = {perform(stage, "/pid").message for _ in range(4)}
    stage.engine.stop(0)
    assert len(pids) == 1


def test_the_app_sees_a_process_of_one_thread_among_others(begin: Begin) -> None:
    """`wsgi.multithread` is false and `wsgi.multiprocess` true in a child."""
    seen = look(begin())
    assert (seen["wsgi.multithread"], seen["wsgi.multiprocess"]) == (False, True)


def test_the_app_can_import_what_the_parent_can(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child has its parent's `sys.path`, however that was made."""
    (tmp_path / "found_here.py").write_text("from tests.support.child_app import app\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = perform(
        begin(
            ChildSetup(
                application="found_here:app", fingerprint=MiddlewareFingerprint(digest="inner")
            )
        ),
        "/pid",
    )
    assert result.outcome is Outcome.SUCCEEDED


def test_a_name_may_lie_below_another(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`module:holder.app` names an attribute of an attribute."""
    (tmp_path / "holds.py").write_text("from tests.support import child_app\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = perform(
        begin(
            ChildSetup(
                application="holds:child_app.app", fingerprint=MiddlewareFingerprint(digest="inner")
            )
        ),
        "/pid",
    )
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("pythonpath", [None, "/somewhere"], ids=["unset", "set"])
def test_a_child_has_the_environment_of_its_parent(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, pythonpath: str | None
) -> None:
    """PYTHONPATH is what it was, for the programs that the app starts; pulse is told not to."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if pythonpath:
        monkeypatch.setenv("PYTHONPATH", pythonpath)
    process = look(begin())["process"]
    assert (process["PYTHONPATH"], process["PULSE_START"]) == (pythonpath, "off")


def test_a_child_inherits_no_file_but_its_own(begin: Begin) -> None:
    """A file that the parent has open and inheritable is closed in the child."""
    before = look(begin())["process"]["fds"]
    leak = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leak, True)  # noqa: FBT003 - a positional-only parameter of the library
    after = look(begin())["process"]["fds"]
    os.close(leak)
    assert before == after


def test_no_file_is_left_open_after_a_stop(begin: Begin) -> None:
    """The parent's ends of line and lifeline are closed with the child."""
    before = open_files()
    stage = begin()
    perform(stage, "/pid")
    perform(stage, "/exit")
    perform(stage, "/pid")
    stage.engine.stop(0)
    assert open_files() == before


def test_what_the_app_prints_goes_to_standard_error(
    begin: Begin, capfd: pytest.CaptureFixture[str]
) -> None:
    """A view's prints neither break the line nor mix with the server's output."""
    result = perform(begin(), "/say")
    output = capfd.readouterr()
    assert (result.message, output.out) == ("said", "")
    assert "said by the app" in output.err
    assert "written by the app" in output.err


# How children end --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/segv", "signal SIGSEGV"),
        ("/unnamed", f"signal {SIGRTMIN + 3}"),
        ("/exit", "exit status 7"),
        ("/runaway", "exit status 9"),
    ],
)
@pytest.mark.usefixtures("notes")
def test_a_child_that_dies_fails_its_run_and_is_replaced(
    begin: Begin, path: str, words: str
) -> None:
    """The message tells how it died, also where its offspring holds the line; the next one runs."""
    stage = begin()
    lost = perform(stage, path)
    assert (lost.outcome, lost.message) == (
        Outcome.FAILED,
        f"the child process ended during the run: {words}",
    )
    assert perform(stage, "/pid").outcome is Outcome.SUCCEEDED


def test_a_signal_that_is_not_the_parents_interrupts_nothing(begin: Begin) -> None:
    """A service manager's SIGTERM to every process leaves the drain to the server."""
    stage = begin()
    result = perform(stage, "/term")
    assert (result.outcome, result.message) == (
        Outcome.SUCCEEDED,
        perform(stage, "/pid").message,
    )


def test_a_child_that_died_while_idle_fails_nothing(begin: Begin) -> None:
    """Another takes its place."""
    stage = begin()
    child = int(perform(stage, "/pid").message)
    os.kill(child, SIGKILL)
    # Its leading thread is a zombie while others still end; only then can anybody know its fate.
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    wait_until(lambda: os.waitid(os.P_PID, child, ended) is not None, what="the child has ended")
    assert perform(stage, "/pid").outcome is Outcome.SUCCEEDED


def test_a_child_that_dies_before_it_listens_fails_its_run(begin: Begin) -> None:
    """An errand that nobody read is a failed run, not an endless one."""
    before = open_sockets()
    stage = begin()
    child = int(perform(stage, "/pid").message)
    (line,) = open_sockets() - before
    os.kill(child, SIGSTOP)
    wait_until(lambda: is_stopped(child), what="the child listens no more")
    stage.submit(make_claim(action="/pid"))
    wait_until(lambda: unread(line), what="the errand is sent")
    os.kill(child, SIGKILL)
    message = stage.await_endings(2)[-1].result.message
    assert message == "the child process ended during the run: signal SIGKILL"


def test_a_timeout_tells_where_the_run_was(begin: Begin, notes: Callable[[str], int]) -> None:
    """The app's `finally` blocks have run, and the line where it waited is in the message."""
    result = perform(begin(), "/nap", timeout=0.5)
    assert result.outcome is Outcome.TIMED_OUT
    assert "interrupted at its timeout; it was here:" in result.message
    assert "time.sleep(60)" in result.message
    assert notes("cleaned") == notes("busy")


@pytest.mark.parametrize("path", ["/native", "/stubborn"])
def test_what_ignores_a_timeout_is_killed(
    begin: Begin, notes: Callable[[str], int], path: str
) -> None:
    """A native call that holds the interpreter's lock is ended as a child that ignores TERM is."""
    result = perform(begin(), path, timeout=0.3)
    assert (result.outcome, is_alive(notes("busy"))) == (Outcome.TIMED_OUT, False)
    assert "killed" in result.message


def test_a_timeout_ends_the_whole_group(begin: Begin, notes: Callable[[str], int]) -> None:
    """What the app had started dies with it."""
    result = perform(begin(), "/family", timeout=1.0)
    offspring = notes("offspring")
    wait_until(lambda: not is_alive(offspring), 2.0, "the offspring ends")
    assert result.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize("path", ["/nap", "/stubborn"])
def test_a_stop_ends_what_goes_on_as_interrupted(
    begin: Begin, notes: Callable[[str], int], path: str
) -> None:
    """After the drain the child is gone, and its run is reported `interrupted`."""
    stage = begin()
    stage.submit(make_claim(action=path))
    busy = notes("busy")
    stage.engine.stop(SECOND // 10)
    outcomes = [completed_run.result.outcome for completed_run in stage.completed]
    assert (outcomes, is_alive(busy)) == ([Outcome.INTERRUPTED], False)


def test_a_stop_while_a_child_loads_interrupts(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Callable[[str], int]
) -> None:
    """A claim whose child is not ready yet is reported at once, without waiting for it."""
    (tmp_path / "slow.py").write_text(
        "import os, time\n"
        "from tests.support import child_app\n"
        "child_app.note('loading', os.getpid())\n"
        "time.sleep(60)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    stage = begin(ChildSetup(application="slow:app"))
    stage.submit(make_claim(action="/pid"))
    child = notes("loading")
    stage.engine.stop(0)
    outcomes = [completed_run.result.outcome for completed_run in stage.completed]
    assert (outcomes, is_alive(child)) == ([Outcome.INTERRUPTED], False)


def test_an_idle_child_is_ended(begin: Begin) -> None:
    """A child with nothing to do goes after a while, and another comes with the next claim."""
    stage = begin(idle_us=SECOND // 10)
    first = perform(stage, "/pid").message
    wait_until(lambda: not is_alive(int(first)), what="the idle child ends")
    assert perform(stage, "/pid").message != first


def test_a_stopped_engine_has_no_children(begin: Begin) -> None:
    """An idle child ends with its engine."""
    stage = begin()
    child = int(perform(stage, "/pid").message)
    stage.engine.stop(60 * SECOND)
    assert not is_alive(child)


def test_a_claim_whose_lease_is_over_is_not_performed(begin: Begin) -> None:
    """The lease is looked at once the child is ready: it may have taken long."""
    result = perform(begin(), "/pid", good_until=SystemClock().boot() + 1)
    assert (result.outcome, result.status) == (Outcome.ABANDONED, None)


# What keeps children from living -----------------------------------------------------------


def test_an_engine_that_knows_no_application_does_not_start() -> None:
    """The error names the setting that says where the application is."""
    engine = ProcessEngine(
        SystemClock(), child=ChildSetup(fingerprint=MiddlewareFingerprint(digest="d"))
    )
    with pytest.raises(EngineError, match=r"pulse\.config\.application: expected package"):
        engine.start(EngineCallbacks(_never, print, print), concurrency=1)


def _never(claim: Claim) -> Result:
    raise AssertionError(claim)


@pytest.mark.parametrize(
    ("application", "words"),
    [
        ("no_such_module:app", "No module named 'no_such_module'"),
        ("tests.support.child_app:nothing", "has no attribute 'nothing'"),
        ("quits:app", "SystemExit: not here"),
        ("dies:app", "ended while it loaded the application: exit status 5"),
    ],
)
def test_an_application_that_cannot_be_loaded_fails_the_run(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, application: str, words: str
) -> None:
    """The message is the traceback of what kept it from loading."""
    (tmp_path / "quits.py").write_text("raise SystemExit('not here')")
    (tmp_path / "dies.py").write_text("import os; os._exit(5)")
    monkeypatch.syspath_prepend(tmp_path)
    result = perform(begin(ChildSetup(application=application)), "/pid", timeout=0.01)
    assert result.outcome is Outcome.FAILED
    assert words in result.message


def test_the_time_that_loading_takes_is_no_part_of_the_run(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout counts from the call: the first run of a child is not punished for its import."""
    (tmp_path / "waits.py").write_text(
        "import time; time.sleep(1)\nfrom tests.support.child_app import app\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result = perform(
        begin(
            ChildSetup(application="waits:app", fingerprint=MiddlewareFingerprint(digest="inner"))
        ),
        "/pid",
        timeout=0.9,
    )
    assert (result.outcome, result.took_us < SECOND) == (Outcome.SUCCEEDED, True)


def test_an_application_that_does_not_get_loaded_fails_the_run(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that hangs at its import does not hold the run for ever."""
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("pulse.engine.child_process.LOADING", SECOND)
    result = perform(begin(ChildSetup(application="hangs:app")), "/pid")
    assert result.outcome is Outcome.FAILED
    assert result.message == "the child process did not load the application in 1 s"


def test_a_process_that_cannot_be_made_fails_the_run(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own words are the message."""
    stage = begin()
    monkeypatch.setattr("pulse.engine.child_process.find_python", lambda: str(tmp_path / "none"))
    result = perform(stage, "/pid")
    assert result.outcome is Outcome.FAILED
    assert result.message.startswith("no child process could be started: [Errno 2]")


def test_an_application_that_cannot_be_loaded_is_not_tried_at_once(begin: Begin) -> None:
    """A claim in the pause fails with what is known, and says when it is tried again."""
    stage = begin(ChildSetup(application="no_such_module:app"))
    perform(stage, "/pid")
    message = perform(stage, "/pid").message
    assert "No module named 'no_such_module'" in message
    assert message.endswith("(tried again in 1 s)")


def test_child_that_is_stopped_while_it_loads_delays_no_other_run() -> None:
    """It says nothing about the application: the next one is started at once."""
    starter = ChildStarter(BARE, SystemClock())
    made: list[ChildProcess] = []

    def stop(child: ChildProcess) -> None:
        made.append(child)
        child.interrupt()

    with pytest.raises(ChildLostError, match="while it loaded the application"):
        starter.make(stop)
    made.append(starter.make(lambda _: None))
    for child in made:
        child.end()


def test_a_claim_that_cannot_be_told_is_a_failed_run(begin: Begin) -> None:
    """Text that UTF-8 cannot carry fails its own run, and no other."""
    stage = begin()
    claim = make_claim(action="/pid")
    odd = msgspec.structs.replace(claim, run=msgspec.structs.replace(claim.run, id="\udcff"))
    outcomes = stage.perform_all(odd, claim)
    assert outcomes == [Outcome.FAILED, Outcome.SUCCEEDED]


# Which Python, and which application -------------------------------------------------------


@pytest.mark.parametrize("embedding", ["/usr/sbin/uwsgi", "/usr/bin/python3", "", None])
def test_python_is_found_where_a_server_embeds_it(
    monkeypatch: pytest.MonkeyPatch, embedding: str | None
) -> None:
    """Where `sys.executable` is none of this environment, it is looked for below the prefix."""
    monkeypatch.setattr("sys.executable", embedding)
    assert Path(find_python()).parent == Path(sys.prefix, "bin")


def test_the_python_without_an_environment_is_the_one_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outside of a virtual environment `sys.executable` is right where it is a Python."""
    here = sys.executable
    monkeypatch.setattr("sys.base_prefix", sys.prefix)
    assert find_python() == here


def test_a_prefix_without_python_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is no interpreter the engine does not start."""
    for name in ("executable", "prefix", "exec_prefix", "base_prefix", "base_exec_prefix"):
        monkeypatch.setattr(f"sys.{name}", str(tmp_path))
    with pytest.raises(EngineError, match="expected a Python interpreter below"):
        find_python()


def test_the_right_middlewares_application_is_called(begin: Begin) -> None:
    """A run goes into what the parent's middleware wraps, never into what lies around it."""
    setup = ChildSetup(
        application="tests.support.child_app:outermost",
        fingerprint=MiddlewareFingerprint(digest="inner"),
        base_url="https://shop.example.org",
    )
    seen = look(begin(setup))
    assert (seen["HTTP_HOST"], seen["pulse.scheduler"]) == ("shop.example.org", "inner")


def test_a_middleware_with_other_settings_is_refused(begin: Begin) -> None:
    """Where the application holds none with the parent's settings, nothing is called."""
    result = perform(
        begin(
            ChildSetup(
                application="tests.support.child_app:outermost",
                fingerprint=MiddlewareFingerprint(digest="x"),
            )
        ),
        "/pid",
    )
    assert result.outcome is Outcome.FAILED
    assert "got 2 with other settings" in result.message
