"""The text of an exception, bounded before it is copied.

An exception of the application may contain any amount of text. `traceback` copies the whole text
several times, during which no other thread runs. Therefore each text is cut first.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

LONGEST_TRACEBACK: Final = 8_192
"""How many characters of a traceback are kept."""

_MAX_LINKS = 16
"""How many exceptions of a chain or a group are formatted."""

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def traceback_text(
    error: BaseException, frames: TracebackType | None = None, *, limit: int | None = None
) -> str:
    """Return the traceback of an exception, at most `LONGEST_TRACEBACK` characters of it.

    Args:
        error: the exception.
        frames: the first frame to show; that of the exception by default.
        limit: how many frames to show, as for `traceback.format_exception`.

    """
    frames = frames or error.__traceback__
    linked = list(_linked(error))
    if len(linked) <= _MAX_LINKS and sum(map(_size, linked)) <= LONGEST_TRACEBACK:
        lines = traceback.format_exception(type(error), error, frames, limit=limit)
        return bounded("".join(lines).rstrip())
    return bounded("".join(_short_lines(error, frames, limit)).rstrip())


def message_of(error: BaseException) -> str:
    """Return the text of an exception without its type, bounded."""
    return bounded(_text(error))


def summary_line(message: str) -> str:
    """Return the line that says most: the error of a traceback, else the first line."""
    lines = message.splitlines() or [""]
    if not lines[0].endswith("Traceback (most recent call last):"):
        return lines[0]
    return next((line for line in reversed(lines) if line[:1].strip()), lines[-1])


def bounded(text: str) -> str:
    """Return the beginning and a longer end of a text, with characters that every store accepts."""
    dropped = max(0, len(text) - 2 * LONGEST_TRACEBACK)
    if dropped:
        text = text[:LONGEST_TRACEBACK] + text[-LONGEST_TRACEBACK:]
    text = text.encode(errors="backslashreplace").decode().replace("\0", "\ufffd")
    left_out = len(text) - LONGEST_TRACEBACK
    if left_out <= 0:
        return text
    head = LONGEST_TRACEBACK // 4
    tail = LONGEST_TRACEBACK - head
    return f"{text[:head]}\n[... {left_out + dropped} characters left out ...]\n{text[-tail:]}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception of the app may fail to describe itself
        return "<the text of the exception cannot be made>"


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _size(error: BaseException) -> int:
    return len(_text(error)) + sum(map(len, _notes(error)))


def _previous(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _linked(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, those before it and those of its groups; a few more than are shown."""
    pending, seen = [error], set[int]()
    while pending and len(seen) <= _MAX_LINKS:
        link = pending.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            pending.extend(link.exceptions[: _MAX_LINKS + 1])
        if (previous := _previous(link)) is not None:
            pending.append(previous)


def _short_lines(
    error: BaseException, frames: TracebackType | None, limit: int | None
) -> Iterator[str]:
    """Yield the chain of an exception, oldest first, with bounded texts."""
    chain, link = [error], _previous(error)
    while link is not None and len(chain) < _MAX_LINKS and link not in chain:
        chain.append(link)
        link = _previous(link)
    for link in reversed(chain):
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(frames if link is error else link.__traceback__, limit=limit)
        yield f"{type(link).__module__}.{type(link).__qualname__}: {message_of(link)}\n"
        yield from (f"{bounded(note)}\n" for note in _notes(link))
        if isinstance(link, BaseExceptionGroup):
            for inner in link.exceptions[:_MAX_LINKS]:
                yield f"  {type(inner).__qualname__}: {message_of(inner)}\n"
        if link is not error:
            yield _CAUSE if error.__cause__ is link else _CONTEXT
