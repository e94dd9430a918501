"""The ini dialect and the keywords into `Settings`: all that is wrong is told at once.

The rules:

* A task's name may hold dots: in `pulse.task.<name>.<setting>` the last part is the setting.
* A keyword wins over the key of the same setting; a task that both declare is an error. None
  stands for "not given".
* In the section of an ini file every key must be pulse's own. A mapping that is passed as
  `config=` may be an application's whole settings: keys of others are let be there, unless they
  look like a misspelt `pulse`.
* Keys that begin with `pulse.` in `[DEFAULT]` apply where the section does not say otherwise.
  (PasteDeploy drops a section's key that `[DEFAULT]` has too; `set <key> = ` overrules it.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from pulse.config.converters import EXPECTED_LABEL, is_label
from pulse.config.keys import CONFIG, TASK, looks_ours, sort_keys
from pulse.config.settings import DEFAULT_BASE_URL, SETTINGS, Paste, Settings
from pulse.core.task import Task, define_values, given, path_of, read_task
from pulse.errors import ConfigError, shown
from pulse.guard import canonical_path
from pulse.schedule.converters import UTC
from pulse.settings.setting import read, unknown_key
from pulse.wsgi.environ import header_problems

if TYPE_CHECKING:
    from pulse.core.task import Definition

_SPANS = {name: f"{name}_us" for name in ("lease", "drain", "timeout", "keep_for")}
_USUAL = ("context", "timeout_us", "timezone")
"""The settings that say what a task leaves open."""

_CHILDREN = "package.module:name, so that child processes find the application"


def load(config: Mapping[str, object] | None, keywords: Mapping[str, object]) -> Settings:
    """Return the settings of a mapping in the ini dialect and of keywords.

    Raises:
        ConfigError: with one sentence for each thing that is wrong.

    """
    draft = Draft()
    given_keys = {} if config is None else config
    if not isinstance(given_keys, Mapping):
        raise ConfigError([f"config: expected a mapping of keys to values, got {shown(config)}"])
    draft.take_keys({key: value for key, value in given_keys.items() if looks_ours(key)})
    draft.take_keywords(keywords)
    return draft.settle(origin=_working_directory())


def load_paste(global_conf: Mapping[str, str], local_conf: Mapping[str, str]) -> Settings:
    """Return the settings of one section of an ini file, as PasteDeploy passes it.

    Raises:
        ConfigError: with one sentence for each thing that is wrong.

    """
    draft = Draft()
    inherited = {key: value for key, value in global_conf.items() if key.startswith("pulse.")}
    draft.take_keys({**inherited, **local_conf})
    file = global_conf.get("__file__")
    if not file:
        return draft.settle(origin=_working_directory())
    return draft.settle(origin=str(Path(file).resolve()), paste=_paste(file, global_conf))


class Draft:
    """What was read so far, right and wrong."""

    __slots__ = ("_prefixes", "_problems", "_tasks", "_values", "_written")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._prefixes: dict[str, str] = {}
        self._tasks: dict[str, dict[str, Any]] = {}
        self._written: frozenset[str] = frozenset()
        self._problems: list[str] = []

    def take_keys(self, mapping: Mapping[str, object]) -> None:
        """Read keys of the ini dialect."""
        found = sort_keys(mapping)
        self._problems += found.problems
        self._take_config(found.config, prefix=CONFIG)
        for name, words in found.tasks.items():
            self._take_task(name, words, TASK)
        self._written = frozenset(found.tasks)

    def take_keywords(self, keywords: Mapping[str, object]) -> None:
        """Read the keywords of `PulseMiddleware`."""
        words = {name: value for name, value in keywords.items() if value is not None}
        for keyword in ("tasks", "task"):
            tasks = words.pop(keyword, {})
            if isinstance(tasks, Mapping):
                self._take_tasks(tasks, keyword)
            else:
                expected = "expected a mapping of names to Task"
                self._problems.append(f"{keyword}: {expected}, got {shown(tasks)}")
        for name in words.keys() - SETTINGS.keys():
            del words[name]
            self._problems.append(unknown_key("", name, [*SETTINGS, "tasks"]))
        self._take_config(words, prefix="")

    def settle(self, *, origin: str, paste: Paste | None = None) -> Settings:
        """Return the settings, or raise all the problems."""
        values = {_SPANS.get(name, name): value for name, value in self._values.items()}
        tasks = self._define(values)
        if "guarded" in values:
            values["guarded"] = self._locate_guarded(values)
        if values.get("guard"):
            self._refuse_guarded_root(tasks)
        paste = self._locate(values, paste)
        if self._problems:
            raise ConfigError(self._problems)
        zone = values.get("timezone", UTC)
        return Settings(
            tasks=tasks,
            zones={name: one.get("timezone", zone) for name, one in self._tasks.items()},
            digest=_digest(tasks, values.get("base_url", DEFAULT_BASE_URL)),
            origin=origin,
            paste=paste,
            **values,
        )

    def _take_config(self, words: Mapping[str, object], *, prefix: str) -> None:
        values, problems = read(SETTINGS, words, prefix=prefix)
        self._values |= values
        self._prefixes |= dict.fromkeys(values, prefix)
        self._problems += problems

    def _take_tasks(self, tasks: Mapping[Any, object], keyword: str) -> None:
        for name, task in tasks.items():
            if name in self._tasks or name in self._written:
                self._problems.append(f"{_place(keyword, name)}: this task is declared twice")
            elif isinstance(task, Task):
                self._take_task(name, given(task), keyword)
            elif isinstance(task, Mapping):
                words = {key: value for key, value in task.items() if value is not None}
                self._take_task(name, words, keyword)
            else:
                expected = "expected a Task or a mapping of its settings"
                self._problems.append(f"{_place(keyword, name)}: {expected}, got {shown(task)}")

    def _take_task(self, name: Any, words: Mapping[str, object], source: str) -> None:  # noqa: ANN401 - any key of a mapping
        values, problems = read_task(words)
        if values.get("enabled", True):
            problems += header_problems(values.get("headers", ()))
        if problems:
            place = _place(source, name)
            self._problems += [f"{place}.{problem}" for problem in problems]
        if not isinstance(name, str) or not is_label(name):
            self._problems.append(
                f"{_place(source, name)}: expected {EXPECTED_LABEL}, got {shown(name)}"
            )
        elif not problems and values.get("enabled", True):
            self._tasks[name] = values

    def _define(self, settings: Mapping[str, Any]) -> dict[str, Definition]:
        usual = {name: settings[name] for name in _USUAL if name in settings}
        return {name: define_values(name, one, **usual) for name, one in self._tasks.items()}

    def _refuse_guarded_root(self, tasks: Mapping[str, Definition]) -> None:
        for name, task in tasks.items():
            if _is_root(task.path):
                place = _place(TASK if name in self._written else "tasks", name)
                expected = "expected a path below the root under guard = true"
                self._problems.append(f"{place}.action: {expected}, got {shown(task.path)}")

    def _locate_guarded(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the guarded paths as the guard takes them."""
        key = self._prefixes["guarded"] + "guarded"
        if not values.get("guard"):
            self._problems.append(f"{key}: expected guard = true beside it, got no guard")
        paths = [path_of(action, values.get("context", "")) for action in values["guarded"]]
        for path in paths:
            if _is_root(path):
                self._problems.append(f"{key}: expected paths below the root, got {shown(path)}")
        return tuple(paths)

    def _locate(self, values: dict[str, Any], paste: Paste | None) -> Paste | None:
        """Take an application that is a section of the ini file out of *values*."""
        application = values.get("application", "")
        if ":" in application:
            return paste
        if not paste and (application or values.get("mode") == "processing"):
            key = self._prefixes["application" if application else "mode"] + "application"
            got = f"{shown(application)}, a section of no file" if application else "none"
            self._problems.append(f"{key}: expected {_CHILDREN}, got {got}")
            return None
        if not paste or not application:
            return paste
        del values["application"]
        return msgspec.structs.replace(paste, section=application)


def _is_root(path: str) -> bool:
    reading = canonical_path.read(path)
    return not reading or not canonical_path.resolve(reading)


def _place(source: str, name: object) -> str:
    return f"{TASK}{name}" if source == TASK else f"{source}[{shown(name)}]"


def _paste(file: str, global_conf: Mapping[str, str]) -> Paste:
    uri = f"config:{quote(str(Path(file).absolute()))}"
    return Paste(uri=uri, section="main", global_conf=dict(global_conf))


def _digest(tasks: Mapping[str, Definition], base_url: str) -> str:
    seen = hashlib.blake2b(base_url.encode(), digest_size=8)
    for name in sorted(tasks):
        seen.update(f"\n{name}\0{tasks[name].digest}".encode())
    return seen.hexdigest()


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # the directory is gone: the name must come from elsewhere
        return "/"
