"""A Ctrl-C at a chosen line of a function."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self


class Interrupted:
    """Raises KeyboardInterrupt at the *nth* line that runs in `stop`, as a Ctrl-C may."""

    def __init__(self, nth: int) -> None:
        self._left = nth
        self._before = sys.gettrace()

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, event: str, _: object) -> Callable | None:
        return self._line if event == "call" and frame.f_code.co_name == "stop" else None

    def _line(self, _: FrameType, event: str, __: object) -> Callable:
        if event == "line":
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self._line
