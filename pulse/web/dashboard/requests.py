"""The parameters of pages and the fields of forms, as structs with exact types and bounds.

A template sees parsed values alone, and each link is built from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs, urlencode

import msgspec
from msgspec import Meta

from pulse.errors import BadValueError
from pulse.schedule.timezone import zone_named
from pulse.web.queries import MAX_BODY, MAX_FIELDS, Number, State, Text, converted, read_bytes
from pulse.web.responses import HttpError

if TYPE_CHECKING:
    from collections.abc import Mapping

TASK_ZONE = "task"
"""The choice by which each time is shown in the zone of its task."""

MOST_FORM = 3 * MAX_BODY + 1_048_576
"""How long an encoded form is at most: a body whose characters take three bytes each, and names."""

MOST_TASKS = 500
"""How many tasks one action changes at most."""

TaskCondition = Literal["overdue", "failing", "running", "waiting", "paused"]
Sort = Literal["attention", "name", "next", "last", "failures"]
Verb = Literal["run", "pause", "resume", "pause_all", "resume_all", "stop"]

P = TypeVar("P", bound="Common")

Search = Annotated[str, Meta(max_length=100)]
Page = Annotated[int, Meta(ge=1, le=1_000)]


class Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each page accepts: the zone of its times, and what was done before it."""

    zone: Annotated[str, Meta(max_length=64)] = TASK_ZONE
    done: Verb | None = None
    count: Annotated[int, Meta(ge=0, le=MOST_TASKS)] = 0


class TasksParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks: those whose names contain a text and that are in a state, in an order."""

    q: Search = ""
    state: TaskCondition | None = None
    sort: Sort = "attention"
    page: Page = 1


class TaskParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which task, and which of its runs."""

    name: Text
    outcome: State | None = None
    before: Number | None = None


class RunParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which run."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]


class RunsParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs of all tasks, or of one, which may be gone."""

    name: Text = ""
    outcome: State | None = None
    before: Number | None = None


class TimelineParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks, and how much past and future."""

    q: Search = ""
    span: Literal["1h", "6h", "24h"] | None = None
    page: Page = 1


class AuditParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries: those before a number."""

    before: Number | None = None


class LedgerParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose fire times are accounted for, and how far back."""

    name: Text = ""
    span: Literal["24h", "7d", "31d"] = "7d"


class WhyParams(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which time of which task is explained; *at* is as a form field has it, or with an offset."""

    name: Text = ""
    at: Annotated[str, Meta(max_length=40)] = ""


class ConfirmParams(TasksParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be confirmed: a verb, for a task, for a run, or for the tasks of a filter."""

    verb: Verb
    name: Text = ""
    id: Annotated[str, Meta(max_length=64)] = ""


class ActionForm(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done, and the page that is shown then."""

    verb: Verb
    name: Annotated[list[Text], Meta(max_length=MOST_TASKS)] = []
    id: Annotated[str, Meta(max_length=64)] = ""
    key: Annotated[str, Meta(max_length=64)] = ""
    note: Text = ""
    until: Annotated[str, Meta(max_length=40)] = ""
    until_zone: Annotated[str, Meta(max_length=64)] = "UTC"
    body: Annotated[str, Meta(max_length=MAX_BODY)] = ""
    with_body: Literal["on"] | None = None
    q: Search = ""
    state: TaskCondition | None = None
    sort: Sort = "attention"
    page: Page = 1


def read_params(environ: Mapping[str, Any], kind: type[P]) -> P:
    """Return the parameters of a page; those without a value, as forms send them, are left out.

    Raises:
        HttpError: a parameter is unknown, missing, repeated or wrong.

    """
    text: str = environ.get("QUERY_STRING", "")
    try:
        fields = parse_qs(text, max_num_fields=MAX_FIELDS, errors="strict")
    except (ValueError, UnicodeError) as error:
        raise HttpError(400, f"query: expected parameters in UTF-8, got {error}") from None
    for name, values in fields.items():
        if len(values) > 1:
            raise HttpError(400, f"{name[:100]}: expected one value, got several")
    params = converted({name: values[0] for name, values in fields.items()}, kind, strict=False)
    checked_zone(params.zone)
    return params


def read_form(environ: Mapping[str, Any]) -> ActionForm:
    """Return the fields of a form.

    Raises:
        HttpError: the form is too long, has an unknown field, or a wrong value.

    """
    sent = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if sent != "application/x-www-form-urlencoded":
        raise HttpError(415, f"Content-Type: expected a form, got {sent[:100] or 'none'}")
    data = read_bytes(environ, most=MOST_FORM)
    try:
        fields = parse_qs(
            data.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(data),
            max_num_fields=MAX_FIELDS + MOST_TASKS,
            errors="strict",
        )
    except (ValueError, UnicodeError) as error:
        raise HttpError(400, f"form: expected fields in UTF-8, got {error}") from None
    given: dict[str, object] = {}
    for name, values in fields.items():
        if name == "name":
            given[name] = values
        elif len(values) > 1:
            raise HttpError(400, f"{name[:100]}: expected one value, got several")
        elif values[0] or name in {"body", "note"}:
            given[name] = values[0]
    return converted(given, ActionForm, strict=False)


def checked_zone(zone: str) -> str:
    """Return the name of a time zone, or `TASK_ZONE`.

    Raises:
        HttpError: there is no such zone.

    """
    if zone == TASK_ZONE:
        return zone
    try:
        zone_named(zone)
    except BadValueError:
        raise HttpError(400, "zone: expected task, UTC or a name such as Europe/Berlin") from None
    return zone


def link_to(page: str, params: Mapping[str, object]) -> str:
    """Return a relative link to a page; parameters that are empty are left out.

    All pages are in one folder, so that links are right wherever a proxy puts it.
    """
    given = [(name, str(value)) for name, value in params.items() if value not in {None, "", 0}]
    query = urlencode(given)
    return f"{page or './'}?{query}" if query else page or "./"
