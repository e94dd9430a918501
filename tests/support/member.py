"""Stands in for one middleware's arrangement, and writes down what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.serving.base import Server


class RecordingMember:
    """A member of a process that records each call."""

    identity = None

    def __init__(
        self, *, interrupts: int = 0, kind: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self.told: list[str] = []
        self.notes: list[str] = []
        self.host: Server | None = None
        self._interrupts = interrupts
        self._kind = kind

    def belong(self, host: Server) -> None:
        """Keep the host."""
        self.told.append("belong")
        self.host = host

    def is_begun(self) -> bool:
        """Return whether `enter` or `begin` was called."""
        return bool({"enter", "begin"} & set(self.told))

    def enter(self) -> None:
        """Record it."""
        self.told.append("enter")

    def begin(self) -> None:
        """Record it."""
        self.told.append("begin")

    def quiet(self) -> None:
        """Record it."""
        self.told.append("quiet")

    def end(self) -> None:
        """Record it, and be interrupted as often as wanted."""
        self.told.append("end")
        if self._interrupts:
            self._interrupts -= 1
            raise self._kind

    def may_be_dropped(self) -> bool:
        """Return False."""
        return False

    def forked(self) -> None:
        """Record it."""
        self.told.append("forked")

    def note(self, text: str) -> None:
        """Keep the text."""
        self.notes.append(text)
