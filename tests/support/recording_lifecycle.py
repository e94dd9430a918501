"""A fake lifecycle that records each call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.serving import Server


class RecordingLifecycle:
    """A lifecycle that records the name of each method that is called.

    Args:
        interrupts: how many calls of `shutdown` raise *kind*.
        kind: what they raise.

    """

    identity = None

    def __init__(
        self, *, interrupts: int = 0, kind: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self.calls: list[str] = []
        self.notes: list[str] = []
        self.server: Server | None = None
        self._interrupts = interrupts
        self._kind = kind

    def set_server(self, server: Server) -> None:
        """Keep the server."""
        self.calls.append("set_server")
        self.server = server

    def is_started(self) -> bool:
        """Return whether a method that starts was called."""
        return bool({"start_automatically", "start"} & set(self.calls))

    def start_automatically(self) -> None:
        """Record the call."""
        self.calls.append("start_automatically")

    def start(self) -> None:
        """Record the call."""
        self.calls.append("start")

    def stop_claiming(self) -> None:
        """Record the call."""
        self.calls.append("stop_claiming")

    def shutdown(self, _limit_s: float | None = None) -> None:
        """Record the call, and raise as often as wanted."""
        self.calls.append("shutdown")
        if self._interrupts:
            self._interrupts -= 1
            raise self._kind

    def may_be_garbage(self) -> bool:
        """Return False."""
        return False

    def forked(self) -> None:
        """Record the call."""
        self.calls.append("forked")

    def note(self, text: str) -> None:
        """Keep the text."""
        self.notes.append(text)
