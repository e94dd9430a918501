"""Runs the command `pulse` at a pseudo terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys

PATIENCE_S = 60.0


def at_terminal(
    words: list[str], *, answer: str | None = None, **environment: str
) -> tuple[str, int]:
    """Return what the command `pulse` prints at a terminal of 80 columns, and its exit status.

    *answer* is typed at the terminal; without it, nobody is there to type.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pulse", *words],
        stdout=theirs,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL if answer is None else theirs,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    if answer is not None:
        os.write(ours, answer.encode())
    printed = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the end: the last process has closed the terminal
            break
        if not piece:
            break
        printed += piece
    os.close(ours)
    return printed.decode(), process.wait(timeout=60)


def watched_at_terminal(words: list[str], *, until: str) -> tuple[str, int]:
    """Run a command at a terminal until it shows a text, then press Ctrl-C.

    Returns:
        What it has printed until then, and its exit status.

    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pulse", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    printed = b""
    try:
        while until not in printed.decode(errors="replace"):
            ready, _, _ = select.select([ours], [], [], PATIENCE_S)
            assert ready, f"{until!r} is not shown:\n{printed.decode(errors='replace')}"
            printed += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the end: the last process has closed the terminal
            while os.read(ours, 65_536):
                pass
        status = process.wait(timeout=PATIENCE_S)
    finally:
        process.kill()
        os.close(ours)
    return printed.decode(errors="replace"), status
