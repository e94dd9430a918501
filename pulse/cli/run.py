"""`pulse run TASK TARGET` performs one run at once, in this terminal, through the real dispatch."""

from __future__ import annotations

import logging
import logging.config
import sys
from configparser import ConfigParser
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.child.client import client_access
from pulse.cli.answers import Answer
from pulse.cli.run_watch import RunWatch, interrupting
from pulse.cli.steer import FAILED, REFUSED, body_of, refusal_of, who
from pulse.clock import DAY, SystemClock
from pulse.core.policies import Scope
from pulse.core.run import Claim, CompletedRun, Outcome, Trigger
from pulse.core.run_transitions import claim_run, finish_run, pending_run
from pulse.errors import (
    StoreError,
    StoreUnavailableError,
    UnknownTaskError,
    did_you_mean,
    shown_url,
)
from pulse.events import EventBus
from pulse.log.format import span_text
from pulse.store.factory import find_file, uses_file
from pulse.store.process_identity import this_member
from pulse.store.rules import new_run_id
from pulse.web.views import view_run
from pulse.worker.loading import load_runtime
from pulse.wsgi.foreground import STOPPED, ForegroundCaller
from pulse.wsgi.runner import Runner

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pulse.clock import Clock
    from pulse.config.settings import Settings
    from pulse.core.run import Result, Run
    from pulse.core.task import TaskDefinition
    from pulse.runtime import PulseRuntime
    from pulse.store.base import Store
    from pulse.wsgi.foreground import KeptResponse

INTERRUPTED = 130
_NO_TIMEOUT = 365 * DAY
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_RUN_ANYWAY = "pulse run --no-record runs the task without a record"


class _Begun(NamedTuple):
    """A claim to perform, the store that has it, if any, and why none has it."""

    claim: Claim
    store: Store | None
    unrecorded: str


def run(options: argparse.Namespace) -> Answer:
    """Perform one run of a task; the output of the application goes to stderr.

    Raises:
        ConfigError: the application cannot be loaded, or an option is wrong.
        UnknownTaskError: no such task.
        StoreError: the store of the application cannot be reached.

    """
    clock, body = SystemClock(), body_of(options)
    with redirect_stdout(sys.stderr):
        _log_to_stderr(options)
        app, runtime = load_runtime(
            options.target,
            task=options.task,
            name=options.name,
            app=options.app,
            global_conf=dict(options.globals),
        )
        begun = _begin(options, runtime, body=body, clock=clock)
        if begun is None:
            text = f"{refusal_of(options.task)}, and --anyway runs the task all the same"
            return Answer({"run": None}, (), [text], REFUSED)
        claim = begun.claim
        caller = ForegroundCaller(
            runtime.app, base_url=runtime.settings.base_url, environ=runtime.extra
        )
        result = _perform(claim, caller, begun.store, clock)
        del app
    ended, unrecorded = _record(begun, result)
    lines = [
        *_response_lines(caller.kept, claim),
        *_result_lines(ended, caller.kept),
        f"not recorded: {unrecorded}" if unrecorded else f"recorded as run {ended.id}",
    ]
    document = {
        "run": view_run(ended),
        "recorded": not unrecorded,
        "response": _view_response(caller.kept),
    }
    return Answer(document, (), lines, _status_of(ended))


def _status_of(run: Run) -> int:
    if run.outcome is Outcome.SUCCEEDED:
        return 0
    is_stopped = run.outcome is Outcome.INTERRUPTED and run.message.startswith(STOPPED)
    return INTERRUPTED if is_stopped else FAILED


# Before the run --------------------------------------------------------------------------------


def _log_to_stderr(options: argparse.Namespace) -> None:
    """Configure logging as servers do: by the ini file where that has loggers."""
    file = Path(options.target)
    if file.suffix == ".ini" and file.is_file():
        parser = ConfigParser(interpolation=None, strict=False)
        parser.read(file)
        if parser.has_section("loggers"):
            defaults = {"__file__": str(file.resolve()), "here": str(file.resolve().parent)}
            logging.config.fileConfig(
                file, defaults | dict(options.globals), disable_existing_loggers=False
            )
            return
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=_LOG_FORMAT)


def _begin(
    options: argparse.Namespace, runtime: PulseRuntime, *, body: bytes | None, clock: Clock
) -> _Begun | None:
    """Claim a run in the store, or make one without a record; None if overlap refuses it."""
    settings, task = runtime.settings, options.task
    definition = settings.tasks.get(task)
    unrecorded = "--no-record" if options.no_record else _storeless(settings)
    if not unrecorded:
        try:
            return _begin_in_store(options, settings, body=body, clock=clock)
        except UnknownTaskError as error:
            if definition is None:
                raise UnknownTaskError(f"{error}{did_you_mean(task, settings.tasks)}") from None
            unrecorded = _reason(definition)
    if definition is None:
        where = "of the configuration, since the run is not recorded"
        hint = did_you_mean(task, settings.tasks)
        raise UnknownTaskError(f"expected the name of a task {where}, got {task!r}{hint}")
    if not options.anyway and _is_in_progress(settings, definition, clock):
        return None
    claim = _claim_without_record(definition, body=body, clock=clock)
    return _Begun(_once(claim, options), None, unrecorded)


def _begin_in_store(
    options: argparse.Namespace, settings: Settings, *, body: bytes | None, clock: Clock
) -> _Begun | None:
    access = client_access(settings, clock, EventBus())
    if access is None:
        raise StoreUnavailableError("memory: is inside each process of the server")
    definition = settings.tasks.get(options.task)
    try:
        store = access.store
        claim = store.begin(
            options.task, definition, body=body, by=who(options) or "", at_once=options.anyway
        )
    except StoreError as error:
        raise type(error)(f"{error}; {_RUN_ANYWAY}") from error
    return None if claim is None else _Begun(_once(claim, options), store, "")


def _once(claim: Claim, options: argparse.Namespace) -> Claim:
    """Return a claim that is not retried; with --no-timeout, it has as long as it takes."""
    definition = msgspec.structs.replace(claim.definition, retries=0)
    if options.no_timeout:
        definition = msgspec.structs.replace(definition, timeout_us=_NO_TIMEOUT)
    return msgspec.structs.replace(claim, definition=definition)


def _reason(definition: TaskDefinition | None) -> str:
    """Return why the store has no row of a task."""
    if definition is not None and definition.scope is Scope.PROCESS:
        return "scope = process: each process of the server has its own runs of the task"
    return "no server has deployed the task to this store yet"


def _storeless(settings: Settings) -> str:
    """Return why the store of these settings has no place for the run; empty if it has."""
    if settings.store == "memory:":
        return "memory: is inside each process of the server"
    path = find_file(settings.store, name=settings.name, origin=settings.origin)
    if path is None and uses_file(settings.store):
        where = "the default store" if settings.store is None else shown_url(settings.store)
        return f"no server has used {where} yet"
    return ""


def _is_in_progress(settings: Settings, definition: TaskDefinition, clock: Clock) -> bool:
    """Return whether overlap refuses a run, as far as the store can be asked."""
    access = None if _storeless(settings) else client_access(settings, clock, EventBus())
    if access is None:
        return False
    try:
        states = access.store.tasks(definition.name)
    except StoreError as error:
        print(f"pulse: overlap is not checked: {error}", file=sys.stderr)  # noqa: T201 - the output of the command
        return False
    finally:
        access.close()
    return any(one.unfinished >= definition.max_concurrent for one in states)


def _claim_without_record(definition: TaskDefinition, *, body: bytes | None, clock: Clock) -> Claim:
    holder = this_member("run", "", DAY).holder
    pending = pending_run(
        new_run_id(),
        definition.name,
        partition="",
        trigger=Trigger.MANUAL,
        now=clock.wall(),
        body=body,
    )
    return Claim(claim_run(pending, holder, clock.wall()), definition, clock.boot() + DAY)


# The run, and what became of it ----------------------------------------------------------------


def _perform(claim: Claim, caller: ForegroundCaller, store: Store | None, clock: Clock) -> Result:
    with (
        interrupting(caller) as interrupt,
        RunWatch(claim, clock, store=store, interrupt=interrupt),
    ):
        return Runner(caller, clock).perform(claim)


def _record(begun: _Begun, result: Result) -> tuple[Run, str]:
    """Record the result; return the run as it has ended, and why it is not on record, if so."""
    ended = finish_run(begun.claim.run, result)
    if begun.store is None:
        return ended, begun.unrecorded
    try:
        (became,) = begun.store.finish([CompletedRun(begun.claim, result)])
        begun.store.close()
    except StoreError as error:
        return ended, str(error)
    if became.recorded:
        return ended, ""
    return ended, "another process has taken the run, since its lease was over"


def _response_lines(kept: KeptResponse, claim: Claim) -> Iterator[str]:
    definition = claim.definition
    query = f"?{definition.query}" if definition.query else ""
    yield f"{definition.method} {definition.path}{query}"
    if not kept.line:
        return
    yield kept.line
    yield from (f"{name}: {value}" for name, value in kept.headers)
    yield ""
    text = bytes(kept.body).decode("utf-8", "replace").rstrip()
    if text:
        yield from (*text.splitlines(), "")


def _result_lines(run: Run, kept: KeptResponse) -> Iterator[str]:
    """Yield what the result says beside the response: outcome, time, and the message."""
    outcome = "" if run.outcome is None else run.outcome.value
    yield f"{outcome} in {span_text(run.took_us or 0)}"
    body = bytes(kept.body).decode("utf-8", "replace").replace("\0", "\ufffd")
    if run.message and not body.startswith(run.message):
        yield from run.message.rstrip().splitlines()


def _view_response(kept: KeptResponse) -> dict[str, object] | None:
    if not kept.line:
        return None
    text = bytes(kept.body).decode("utf-8", "replace")
    return {"status": kept.line, "headers": kept.headers, "body": text}
