"""The pages of all runs, of processes, of the audit trail, of ledgers, and of explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from pulse.accounting.ledger import KINDS, Ledger
from pulse.clock import Instant, instant_of, moment_of
from pulse.errors import BadValueError
from pulse.store.steering import AuditEntry, MemberState  # noqa: TC001 - likewise
from pulse.web.dashboard.tasks_page import names_of
from pulse.web.dashboard.texts import UTC, zone_of
from pulse.web.responses import HttpError
from pulse.web.views import ExplanationView, RunView  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from pulse.handle.handle import SchedulerHandle
    from pulse.handle.health import Overview
    from pulse.web.dashboard.requests import AuditParams, LedgerParams, RunsParams, WhyParams
    from pulse.web.documents import ShownOutput

ON_A_PAGE = 100
"""How many runs, or entries of the audit trail, a page lists."""

_SPANS = {"24h": timedelta(days=1), "7d": timedelta(days=7), "31d": timedelta(days=31)}


class RunsModel(msgspec.Struct, frozen=True, kw_only=True):
    """The newest runs of all tasks, and the cursor of the page after."""

    runs: Sequence[RunView]
    zones: Mapping[str, str]
    cursor: int | None


def runs_model(
    overview: Overview, handle: SchedulerHandle, params: RunsParams, output: ShownOutput
) -> RunsModel:
    """Return a page of the history of all tasks."""
    page = handle.runs(
        task=params.name or None,
        outcomes=None if params.outcome is None else [params.outcome],
        before=number_of(params.before),
        limit=ON_A_PAGE,
    )
    return RunsModel(
        runs=[output.view(run) for run in page], zones=zones_of(overview), cursor=page.cursor
    )


class HostGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The processes of one host."""

    host: str
    members: Sequence[MemberState]


class FleetModel(msgspec.Struct, frozen=True, kw_only=True):
    """The processes by host, and by what they declare: more than one group disagrees."""

    hosts: Sequence[HostGroup]
    groups: Mapping[str, Sequence[MemberState]]


def fleet_model(overview: Overview) -> FleetModel:
    """Return the processes that take part."""
    members = sorted(overview.members, key=lambda one: (one.host, one.pid))
    hosts: dict[str, list[MemberState]] = {}
    groups: dict[str, list[MemberState]] = {}
    for one in members:
        hosts.setdefault(one.host, []).append(one)
        groups.setdefault(one.digest, []).append(one)
    return FleetModel(
        hosts=[HostGroup(host=host, members=found) for host, found in hosts.items()],
        groups=groups if len(groups) > 1 else {},
    )


class AuditModel(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of the audit trail, and the number that leads to the page after."""

    entries: Sequence[AuditEntry]
    zones: Mapping[str, str]
    cursor: int | None


def audit_model(overview: Overview, handle: SchedulerHandle, params: AuditParams) -> AuditModel:
    """Return a page of the audit trail."""
    found = handle.audit(before=number_of(params.before), limit=ON_A_PAGE + 1)
    entries = found[:ON_A_PAGE]
    return AuditModel(
        entries=entries,
        zones=zones_of(overview),
        cursor=entries[-1].number if len(found) > ON_A_PAGE else None,
    )


class LedgerModel(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger of a task, once one is chosen.

    Attributes:
        names: the tasks to choose from.
        zone: the time zone of the task.
        ledger: what became of its fire times; None before a task is chosen.
        kinds: the numbers by kind.

    """

    names: Sequence[str]
    zone: str
    ledger: Ledger | None
    kinds: Mapping[str, int]


def ledger_model(overview: Overview, handle: SchedulerHandle, params: LedgerParams) -> LedgerModel:
    """Return the ledger of a task, or the form in which one is chosen.

    Raises:
        UnknownTaskError: no such task.

    """
    ledger, kinds = None, {}
    if params.name:
        since = moment_of(overview.health.at) - _SPANS[params.span]
        (ledger,) = handle.ledger(params.name, since=since)
        if not ledger.fire_times:
            handle.task(params.name)  # the records of a task that is gone are kept for 90 days
        kinds = {kind: getattr(ledger, kind) for kind in KINDS}
    return LedgerModel(
        names=sorted(names_of(overview.tasks)),
        zone=zones_of(overview).get(params.name, UTC),
        ledger=ledger,
        kinds=kinds,
    )


class WhyModel(msgspec.Struct, frozen=True, kw_only=True):
    """The explanations of a time of a task, once both are chosen."""

    names: Sequence[str]
    zone: str
    at: Instant | None
    explanations: Sequence[ExplanationView]


def why_model(
    overview: Overview, handle: SchedulerHandle, params: WhyParams, output: ShownOutput
) -> WhyModel:
    """Return the explanations of a time, or the form in which it is chosen.

    Raises:
        HttpError: the time is none.
        UnknownTaskError: no such task.

    """
    zone = zones_of(overview).get(params.name, UTC)
    at = None
    explanations: list[ExplanationView] = []
    if params.name and params.at:
        at = instant_in(params.at, zone, name="at")
        within = 60 if len(params.at) <= _MINUTE else 1
        found = handle.why(params.name, moment_of(at), within=within)
        if all(one.run is None and one.before is None and one.after is None for one in found):
            handle.task(params.name)
        explanations = [output.explanation(one) for one in found]
    return WhyModel(
        names=sorted(names_of(overview.tasks)), zone=zone, at=at, explanations=explanations
    )


_MINUTE = len("2026-11-28T03:00")
"""The length of a time without seconds, which stands for its whole minute."""


def instant_in(text: str, zone: str, *, name: str) -> Instant:
    """Return the instant of a time that a form has sent; without an offset it is in *zone*.

    Raises:
        HttpError: it is no time.

    """
    expected = f"{name}: expected a time such as 2026-11-28T03:00, got {text[:40]!r}"
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(zone))
        return instant_of(moment)
    except (ValueError, BadValueError):
        raise HttpError(400, expected) from None


def zones_of(overview: Overview) -> dict[str, str]:
    """Return the time zone of each task."""
    return {row.name: zone_of(row.schedule) for row in overview.tasks}


def number_of(text: str | None) -> int | None:
    """Return a cursor that a link has sent."""
    return None if text is None else min(int(text), 2**63 - 1)
