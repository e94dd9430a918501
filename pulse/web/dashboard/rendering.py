"""Renders templates: what they may call, and what each page has around its content."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pulse.clock import rfc3339
from pulse.core.access import Level
from pulse.web.dashboard import texts
from pulse.web.dashboard.actions import MOST_RUNS, TITLES
from pulse.web.dashboard.assets import FOLDER, PACKAGE, assets
from pulse.web.dashboard.charts import BARS, HEIGHT, PLOT_HEIGHT, PLOT_STEP, PLOTTED, STEP
from pulse.web.dashboard.requests import MOST_TASKS, TASK_ZONE, link_to
from pulse.web.dashboard.timeline import MOST_FUTURE, MOST_PAST, UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

    from pulse.clock import Instant, Span
    from pulse.web.dashboard.requests import Common
    from pulse.web.dashboard.tasks_page import Headline

PAGES = {
    "": "Tasks",
    "timeline": "Timeline",
    "runs": "Runs",
    "fleet": "Fleet",
    "ledger": "Ledger",
    "why": "Why?",
    "audit": "Audit",
}
"""The pages of the menu."""

MARKS = {
    "succeeded": "✓",
    "failed": "✕",
    "timed_out": "◷",
    "abandoned": "◇",
    "interrupted": "■",
    "missed": "○",
    "skipped": "–",  # noqa: RUF001 - a sign, beside the word
    "pending": "…",
    "running": "▸",
}
"""The sign beside the colour of each state."""


class Frame(NamedTuple):
    """What each page has around its content.

    Attributes:
        page: the path of the page.
        params: its parameters.
        level: what the viewer may do.
        who: who that is.
        now: the store's clock.
        read_at: the instant of what is shown, if the store does not answer; None otherwise.
        headline: the first lines; None where nothing is known.
        name: `pulse.config.name`.

    """

    page: str
    params: Common
    level: Level
    who: str
    now: Instant
    read_at: Instant | None
    headline: Headline | None
    name: str = ""


class Links:
    """Makes links that keep the zone, and times in it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._zone = frame.params.zone
        self._kept = {} if self._zone == TASK_ZONE else {"zone": self._zone}

    def to(self, page: str, **params: object) -> str:
        """Return a link to a page."""
        return link_to(page, {**params, **self._kept})

    def here(self, **changes: object) -> str:
        """Return a link to this page with other parameters."""
        return link_to(self._frame.page, {**self._given(), **changes})

    def hidden(self, *names: str) -> list[tuple[str, str]]:
        """Return the parameters of this page that a form keeps; *names* are fields of the form."""
        return [
            (name, str(value))
            for name, value in self._given().items()
            if name not in names and value not in {None, "", 0}
        ]

    def zone(self, own: str) -> str:
        """Return the zone in which times of a task are shown whose own zone is *own*."""
        return own if self._zone == TASK_ZONE else self._zone

    def _given(self) -> dict[str, object]:
        params = self._frame.params
        defaults = type(params).__struct_defaults__
        names = params.__struct_fields__
        required = len(names) - len(defaults)
        given: dict[str, object] = {}
        for number, name in enumerate(names):
            value = getattr(params, name)
            is_default = number >= required and value == defaults[number - required]
            if not is_default and name not in {"done", "count"}:
                given[name] = value
        return given


def render(template: str, frame: Frame, model: object) -> str:
    """Return the text of a page."""
    text: str = (
        _environment()
        .get_template(template)
        .render(
            frame=frame,
            page=model,
            link=Links(frame),
            may_act=frame.level.covers(Level.ACT),
            ago=lambda at: texts.relative(at, frame.now),
            brief=lambda at, zone: texts.shown_briefly(at, zone, frame.now),
        )
    )
    return text


@cache
def _environment() -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        # Pages in a file of their own include the style sheet.
        loader=ChoiceLoader([PackageLoader(PACKAGE, folder) for folder in ("templates", FOLDER)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= _globals()
    environment.filters |= {
        "at": texts.shown_instant,
        "utc": rfc3339,
        "length_of": texts.length_text,
        "instant": texts.instant_of_text,
        "zoned": texts.shown_text,
        "ago_text": texts.relative_text,
        "first_line": texts.first_line,
        "visible": texts.visible,
        "state": lambda state: state.replace("_", " "),
        "holder": lambda holder: holder.rpartition(":")[0],
        "offset": _offset,
    }
    return environment


def _globals() -> Mapping[str, Any]:
    return {
        "pages": PAGES,
        "marks": MARKS,
        "titles": TITLES,
        "assets": assets(),
        "span_words": texts.span_words,
        "bars_width": BARS * STEP,
        "bars_height": HEIGHT,
        "plot_width": PLOTTED * PLOT_STEP + 8,
        "plot_height": PLOT_HEIGHT,
        "units": UNITS,
        "most_past": MOST_PAST,
        "most_tasks": MOST_TASKS,
        "most_runs": MOST_RUNS,
        "most_future": MOST_FUTURE,
    }


def _offset(offset: Span) -> str:
    hours, minutes = divmod(abs(offset) // 60_000_000, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"
