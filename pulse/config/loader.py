"""Loads `Settings` from ini keys and keywords, and reports all problems in one error.

Theory of operation
-------------------
A draft collects values and problems: first from the keys of a mapping (`keys`), then from the
keywords. `finish` builds the task definitions, checks settings that depend on each other, and
either returns the settings or raises one `ConfigError` with all problems.

Rules:

* A task's name may contain dots: in `pulse.task.<name>.<setting>` the last part is the setting.
* A keyword overrides the key of the same setting. A task that is declared by a key and by a keyword
  is an error. A value of None is ignored.
* In the section of an ini file, every key must be a key of pulse. A mapping that is passed as
  `config=` may contain all settings of an application; other keys are ignored there, unless a key
  looks like a misspelling of `pulse`.
* Keys that begin with `pulse.` in `[DEFAULT]` are defaults for the section. (PasteDeploy drops a
key
  of the section that `[DEFAULT]` contains, too; `set <key> = ` overrides the default.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pulse.config.converters import EXPECTED_BROKER, EXPECTED_LABEL, is_label
from pulse.config.keys import CONFIG, TASK, looks_ours, sort_keys
from pulse.config.settings import DEFAULT_BASE_URL, SETTINGS, Settings
from pulse.core.action import path_of
from pulse.core.policies import Scope
from pulse.core.task import Task, build_definition_from_values
from pulse.core.task_settings import explicit_values, read_task
from pulse.engine.factory import CELERY, posts_runs
from pulse.errors import ConfigError, shown
from pulse.guard import canonical_path
from pulse.schedule.converters import UTC
from pulse.settings.setting import read, unknown_key
from pulse.wsgi.environ import header_problems

if TYPE_CHECKING:
    from pulse.config.settings import PasteCall, PasteOrigin
    from pulse.core.task import TaskDefinition

_SPANS = {name: f"{name}_us" for name, row in SETTINGS.items() if row.is_span}
_TASK_DEFAULTS = ("context", "timeout_us", "timezone")
"""The settings that are defaults for tasks."""

MOUNTS = ("api", "dashboard", "health")
"""The settings with an address below which pulse itself answers."""

_NEED_ACCESS = {"api": "read token:${PULSE_TOKEN}", "dashboard": "act basic:USER:HASH"}
"""The settings that are useless without `access`, with a rule that suits each."""

_EXPECTED_APPLICATION = "package.module:name, so that child processes find the application"


def load(config: Mapping[str, object] | None, keywords: Mapping[str, object]) -> Settings:
    """Return the settings of a mapping with ini keys and of keywords.

    Raises:
        ConfigError: the configuration is invalid; one sentence for each problem.

    """
    draft = SettingsDraft()
    mapping = {} if config is None else config
    if not isinstance(mapping, Mapping):
        raise ConfigError([f"config: expected a mapping of keys to values, got {shown(config)}"])
    draft.add_keys({key: value for key, value in mapping.items() if looks_ours(key)})
    draft.add_keywords(keywords)
    return draft.finish(origin=_working_directory())


def load_paste(
    global_conf: Mapping[str, str],
    local_conf: Mapping[str, str],
    *,
    call: PasteCall | None = None,
) -> Settings:
    """Return the settings of a section of an ini file, as passed by PasteDeploy.

    Args:
        global_conf: of the whole file.
        local_conf: of the section.
        call: what PasteDeploy was asked for, where that is known.

    Raises:
        ConfigError: the configuration is invalid; one sentence for each problem.

    """
    draft = SettingsDraft()
    inherited = {key: value for key, value in global_conf.items() if key.startswith("pulse.")}
    draft.add_keys({**inherited, **local_conf})
    file = global_conf.get("__file__")
    if not file:
        return draft.finish(origin=_working_directory())
    draft.take_call(call)
    from pulse.config.paste_origin import paste_of

    return draft.finish(origin=str(Path(file).resolve()), paste=paste_of(file, global_conf, call))


class SettingsDraft:
    """The values and problems that have been read so far."""

    __slots__ = ("_call", "_ini_tasks", "_prefixes", "_problems", "_tasks", "_values")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._prefixes: dict[str, str] = {}
        self._tasks: dict[str, dict[str, Any]] = {}
        self._ini_tasks: frozenset[str] = frozenset()
        self._problems: list[str] = []
        self._call: PasteCall | None = None

    def take_call(self, call: PasteCall | None) -> None:
        """Keep the call of PasteDeploy."""
        self._call = call

    def add_keys(self, mapping: Mapping[str, object]) -> None:
        """Add the values of ini keys."""
        keys = sort_keys(mapping)
        self._problems += keys.problems
        self._add_config(keys.config, prefix=CONFIG)
        for name, settings in keys.tasks.items():
            self._add_task(name, settings, TASK)
        self._ini_tasks = frozenset(keys.tasks)

    def add_keywords(self, keywords: Mapping[str, object]) -> None:
        """Add the values of the keywords of `PulseMiddleware`."""
        settings = {name: value for name, value in keywords.items() if value is not None}
        for keyword in ("tasks", "task"):
            tasks = settings.pop(keyword, {})
            if isinstance(tasks, Mapping):
                self._add_tasks(tasks, keyword)
            else:
                expected = "expected a mapping of names to Task"
                self._problems.append(f"{keyword}: {expected}, got {shown(tasks)}")
        for name in settings.keys() - SETTINGS.keys():
            del settings[name]
            self._problems.append(unknown_key("", name, [*SETTINGS, "tasks"]))
        self._add_config(settings, prefix="")

    def finish(self, *, origin: str, paste: PasteOrigin | None = None) -> Settings:
        """Return the settings, or raise an error with all problems."""
        values = {_SPANS.get(name, name): value for name, value in self._values.items()}
        tasks = self._define(values)
        if "guarded" in values:
            values["guarded"] = self._guarded_paths(values)
        if values.get("guard"):
            self._reject_guarded_root(tasks)
        self._check_mounts(values, tasks)
        if posts_runs(values.get("mode", "")):
            self._check_posting(values, tasks)
        paste = self._application_section(values, paste)
        if self._problems:
            raise ConfigError(self._problems)
        zone = values.get("timezone", UTC)
        return Settings(
            tasks=tasks,
            zones={name: task.get("timezone", zone) for name, task in self._tasks.items()},
            digest=_digest(tasks, values.get("base_url", DEFAULT_BASE_URL)),
            origin=origin,
            paste=paste,
            **values,
        )

    def _add_config(self, settings: Mapping[str, object], *, prefix: str) -> None:
        values, problems = read(SETTINGS, settings, prefix=prefix)
        self._values |= values
        self._prefixes |= dict.fromkeys(values, prefix)
        self._problems += problems

    def _add_tasks(self, tasks: Mapping[Any, object], keyword: str) -> None:
        for name, task in tasks.items():
            if name in self._tasks or name in self._ini_tasks:
                self._problems.append(f"{_key_of(keyword, name)}: this task is declared twice")
            elif isinstance(task, Task):
                self._add_task(name, explicit_values(task), keyword)
            elif isinstance(task, Mapping):
                settings = {key: value for key, value in task.items() if value is not None}
                self._add_task(name, settings, keyword)
            else:
                expected = "expected a Task or a mapping of its settings"
                self._problems.append(f"{_key_of(keyword, name)}: {expected}, got {shown(task)}")

    def _add_task(self, name: Any, settings: Mapping[str, object], source: str) -> None:  # noqa: ANN401 - any key
        values, problems = read_task(settings)
        if values.get("enabled", True):
            problems += header_problems(values.get("headers", ()))
        if values.get("remove_when_done"):
            problems.append(
                "remove_when_done: expected false for a configured task, which stays as long as it"
                " is declared, got true"
            )
        if problems:
            key = _key_of(source, name)
            self._problems += [f"{key}.{problem}" for problem in problems]
        if not isinstance(name, str) or not is_label(name):
            self._problems.append(
                f"{_key_of(source, name)}: expected {EXPECTED_LABEL}, got {shown(name)}"
            )
        elif not problems and values.get("enabled", True):
            self._tasks[name] = values

    def _define(self, settings: Mapping[str, Any]) -> dict[str, TaskDefinition]:
        defaults = {name: settings[name] for name in _TASK_DEFAULTS if name in settings}
        return {
            name: build_definition_from_values(name, values, **defaults)
            for name, values in self._tasks.items()
        }

    def _reject_guarded_root(self, tasks: Mapping[str, TaskDefinition]) -> None:
        for name, task in tasks.items():
            if _is_root(task.path):
                key = _key_of(TASK if name in self._ini_tasks else "tasks", name)
                expected = "expected a path below the root under guard = true"
                self._problems.append(f"{key}.action: {expected}, got {shown(task.path)}")

    def _check_mounts(self, values: Mapping[str, Any], tasks: Mapping[str, TaskDefinition]) -> None:
        """Report an API without access, and tasks whose actions are below a mounted address."""
        is_wrong = any("access:" in problem for problem in self._problems)
        for name, example in _NEED_ACCESS.items():
            if name in values and "access" not in values and not is_wrong:
                key = self._prefixes[name]
                self._problems.append(
                    f"{key}access: expected who may use {key}{name} = {values[name]}, such as"
                    f" {example}, got nothing"
                )
        for name, task in tasks.items():
            path = task.path.encode("latin-1").decode("utf-8", "replace")
            for mounted in (values[one] for one in MOUNTS if one in values):
                if path == mounted or path.startswith(f"{mounted}/"):
                    key = _key_of(TASK if name in self._ini_tasks else "tasks", name)
                    expected = f"expected a path outside {mounted}, where pulse itself answers"
                    self._problems.append(f"{key}.action: {expected}, got {shown(path)}")

    def _check_posting(
        self, values: Mapping[str, Any], tasks: Mapping[str, TaskDefinition]
    ) -> None:
        """Report what keeps workers from executing the tasks."""
        prefix, mode = self._prefixes["mode"], f"under mode = {values['mode']}"
        is_wrong = any("broker:" in problem for problem in self._problems)
        if values["mode"] == CELERY and "broker" not in values and not is_wrong:
            expected = f"expected {EXPECTED_BROKER}, {mode}"
            self._problems.append(f"{prefix}broker: {expected}; got nothing")
        if values.get("store") == "memory:":
            expected = f"expected a store that workers reach {mode}"
            self._problems.append(f"{self._prefixes['store']}store: {expected}, got memory:")
        for name, task in tasks.items():
            if task.scope is not Scope.FLEET:
                key = _key_of(TASK if name in self._ini_tasks else "tasks", name)
                expected = f"expected fleet {mode}, since any worker of the queue executes the task"
                self._problems.append(f"{key}.scope: {expected}, got {task.scope.value}")

    def _guarded_paths(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the guarded paths in the form that the guard expects."""
        key = self._prefixes["guarded"] + "guarded"
        if not values.get("guard"):
            self._problems.append(f"{key}: expected together with guard = true, got no guard")
        paths = [path_of(action, values.get("context", "")) for action in values["guarded"]]
        for path in paths:
            if _is_root(path):
                self._problems.append(f"{key}: expected paths below the root, got {shown(path)}")
        return tuple(paths)

    def _application_section(
        self, values: dict[str, Any], paste: PasteOrigin | None
    ) -> PasteOrigin | None:
        """Return *paste* with the application's section, which is removed from *values*."""
        application = values.get("application", "")
        if ":" in application:
            return paste
        if not paste and (application or values.get("mode") == "processing"):
            key = self._prefixes["application" if application else "mode"] + "application"
            got = f"{shown(application)}, a section without an ini file" if application else "none"
            self._problems.append(f"{key}: expected {_EXPECTED_APPLICATION}, got {got}")
            return None
        if not paste or not application:
            return paste
        del values["application"]
        from pulse.config.paste_origin import section_problem

        if problem := section_problem(application, paste, self._call):
            self._problems.append(f"{self._prefixes['application']}application: {problem}")
        return msgspec.structs.replace(paste, section=application, chosen=True)


def _is_root(path: str) -> bool:
    canonical = canonical_path.canonical_form(path)
    return not canonical or not canonical_path.resolve_dot_segments(canonical.segments)


def _key_of(source: str, name: object) -> str:
    return f"{TASK}{name}" if source == TASK else f"{source}[{shown(name)}]"


def _digest(tasks: Mapping[str, TaskDefinition], base_url: str) -> str:
    digest = hashlib.blake2b(base_url.encode(), digest_size=8)
    for name in sorted(tasks):
        digest.update(f"\n{name}\0{tasks[name].digest}".encode())
    return digest.hexdigest()


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # the directory was removed
        return "/"
