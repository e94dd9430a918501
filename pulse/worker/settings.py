"""What the main process of a worker knows of an application, which it never loads itself.

The processes that execute runs load the application after they were forked, as the children of
`mode = processing` do. So a process of its own reads the settings: `python -m pulse.worker.settings
TARGET` writes them to standard output, as JSON.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pulse.engine.factory import posts_runs
from pulse.errors import ConfigError, PulseError, shown
from pulse.settings.converters import is_application
from pulse.worker.loading import load_runtime

if TYPE_CHECKING:
    from pulse.config.settings import Settings
    from pulse.runtime import PulseRuntime

TARGET_VARIABLE = "PULSE_APP"
"""The environment variable that names the application of a worker."""

NAME_VARIABLE = "PULSE_APP_NAME"
"""The environment variable with `pulse.config.name`, where the application has several."""

PASSED_ON_VARIABLE = "PULSE_WORKER_SETTINGS"
"""The environment variable with the number of the file that has the settings."""

_MEMORY_FILE = "pulse-worker-settings"
_CONFIG = "config:"


class WorkerTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where the application of a worker is.

    Attributes:
        word: the path of an ini file, or `package.module:app`, or `package.module:factory()`.
        section: the name of the application in an ini file.
        name: `pulse.config.name` of the middleware, where the application has several.

    """

    word: str
    section: str = "main"
    name: str | None = None

    def __str__(self) -> str:
        """Return the target as the command line and the environment have it."""
        text = self.word if is_application(self.word) else f"config:{self.word}#{self.section}"
        return text if self.name is None else f"{text} with the name {self.name}"

    def serves_as(self, other: WorkerTarget) -> bool:
        """Return whether another target is the same application, by another path or by this one."""
        return self._resolved() == other._resolved()

    def _resolved(self) -> WorkerTarget:
        if is_application(self.word):
            return self
        return msgspec.structs.replace(self, word=str(Path(self.word).resolve()))


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of an application as far as the main process of a worker needs them.

    Attributes:
        broker: `pulse.config.broker`.
        queues: the queues of its tasks, the default one first.
        error: what keeps the application from being served by a worker; empty for nothing.

    """

    broker: str = ""
    queues: tuple[str, ...] = ()
    error: str = ""

    def __repr__(self) -> str:
        """Return the queues alone: error reports show locals."""
        return f"WorkerSettings(queues={self.queues!r})"


def target_of(text: str, *, name: str | None = None) -> WorkerTarget:
    """Return the target that *text* names: `config:/path.ini#section` or `package.module:app`."""
    if is_application(text) and not text.startswith(_CONFIG):
        return WorkerTarget(word=text, name=name)
    path, _, section = text.removeprefix(_CONFIG).partition("#")
    return WorkerTarget(word=path, section=section or "main", name=name)


def target_from_environment() -> WorkerTarget:
    """Return the target that the environment names.

    Raises:
        ConfigError: it names none.

    """
    text = os.environ.get(TARGET_VARIABLE, "")
    if not text:
        problem = (
            f"celery -A pulse.celery: expected {TARGET_VARIABLE} to name the application, such as"
            " config:/srv/production.ini or package.module:app, got nothing; use pulse worker"
            " FILE.ini"
        )
        raise ConfigError([problem])
    return target_of(text, name=os.environ.get(NAME_VARIABLE))


def import_from_here() -> None:
    """Let modules of the working directory be imported, as web servers do for their applications.

    Celery does so only while it imports its own application.
    """
    here = os.getcwd()  # noqa: PTH109 - an entry of sys.path is a string
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def load_worker_runtime(target: WorkerTarget) -> tuple[object, PulseRuntime]:
    """Return the application, which keeps its middleware alive, and the middleware; none starts.

    Raises:
        ConfigError: the application cannot be loaded, or has no such middleware, or another mode.

    """
    import_from_here()
    app, runtime = load_runtime(
        target.word, task="", name=target.name, app=target.section, global_conf={}
    )
    mode = runtime.settings.mode
    if not posts_runs(mode):
        expected = "pulse.config.mode: expected celery, so that processes post runs to workers"
        raise ConfigError([f"{expected}, got {shown(mode)}"])
    return app, runtime


def worker_settings_of(settings: Settings) -> WorkerSettings:
    """Return what the main process of a worker needs of *settings*."""
    queues = [settings.queue, *(task.queue or settings.queue for task in settings.tasks.values())]
    return WorkerSettings(
        broker=settings.broker or "",
        queues=tuple(dict.fromkeys(queues)),
    )


def read_worker_settings(target: WorkerTarget) -> WorkerSettings:
    """Return the settings of an application, which a process of its own loads.

    Raises:
        ConfigError: the application cannot be loaded.

    """
    command = [sys.executable, "-m", __name__, msgspec.json.encode(target).decode()]
    found = subprocess.run(  # noqa: S603 - this interpreter and this module
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False
    )
    try:
        settings = msgspec.json.decode(found.stdout, type=WorkerSettings)
    except msgspec.MsgspecError:
        status = f"its process ended with status {found.returncode}"
        raise ConfigError(
            [f"{target.word}: expected an application to load, but {status}"]
        ) from None
    if settings.error:
        raise ConfigError(settings.error.split("\n"))
    return settings


def pass_on(settings: WorkerSettings) -> None:
    """Leave settings to the program that replaces this one, in a file of the memory alone.

    The URL of a broker may have a password, which the environment of a process would show.
    """
    file = os.memfd_create(_MEMORY_FILE, 0)
    os.write(file, msgspec.json.encode(settings))
    os.set_inheritable(file, True)  # noqa: FBT003 - has no name
    os.environ[PASSED_ON_VARIABLE] = str(file)


def passed_on() -> WorkerSettings | None:
    """Return the settings that the program before this one has left; None if there are none."""
    number = os.environ.pop(PASSED_ON_VARIABLE, "")
    try:
        if _MEMORY_FILE not in os.readlink(f"/proc/self/fd/{number}"):  # noqa: PTH115 - no file
            return None  # the number was given to another file
        with open(int(number), "rb") as file:  # noqa: PTH123 - an open file
            file.seek(0)
            return msgspec.json.decode(file.read(), type=WorkerSettings)
    except (OSError, ValueError, msgspec.MsgspecError):  # closed, as by a process that detached
        return None


def main() -> None:
    """Write the settings of the application that the argument names."""
    target = msgspec.json.decode(sys.argv[1], type=WorkerTarget)
    # What the application and its own programs print goes to standard error.
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        app, runtime = load_worker_runtime(target)
        settings = worker_settings_of(runtime.settings)
        del app
    except PulseError as error:
        settings = WorkerSettings(error=str(error))
    os.write(output, msgspec.json.encode(settings))
    os._exit(0)  # threads that the application has started must not keep this process


if __name__ == "__main__":
    main()
