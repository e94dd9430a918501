"""The WSGI middleware and its paste factory: an ordinary request costs one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pulse.child.discovery import register
from pulse.clock import SystemClock
from pulse.config.loader import load, load_paste
from pulse.config.paste_origin import locate
from pulse.config.settings import Settings
from pulse.core.policies import Start
from pulse.errors import ConfigError, shown
from pulse.guard.guard import PULSE_HEADERS, forbid, is_run
from pulse.runtime import PulseRuntime
from pulse.serving import install
from pulse.serving.identity import identity_of
from pulse.serving.paste_call import find_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn, Unpack
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pulse.config.settings import Keywords
    from pulse.events import EventBus
    from pulse.handle.handle import SchedulerHandle
    from pulse.serving import ServiceLifecycle


_NO_APPLICATION: Final = (
    "expected a filter section, such as [filter:pulse] with use = egg:pulse, which a pipeline names"
    " before the application; got use = egg:pulse in the section of an application"
)


class PulseMiddleware:
    """Requests the wrapped application's own URLs on schedule, and passes all requests through.

    Building it starts nothing: pulse starts automatically in each process that serves requests.

    Args:
        app: the WSGI application (PEP 3333) that holds the scheduled views.
        config: settings as an ini file has them: `{"pulse.config.context": "sessions", ...}`,
            or loaded `Settings`.
        keywords: the same settings as Python values; a keyword overrides *config*.

    Raises:
        ConfigError: settings are wrong; the error lists all problems.

    """

    __slots__ = ("__call__", "__weakref__", "_lifecycle", "_runtime")

    __call__: WSGIApplication

    def __init__(
        self,
        app: WSGIApplication,
        config: Mapping[str, object] | Settings | None = None,
        **keywords: Unpack[Keywords],
    ) -> None:
        settings = _settle(app, config, keywords)
        runtime = PulseRuntime(app, settings, clock=SystemClock())
        start = Start.OFF if register(runtime) else settings.start
        self._runtime = runtime
        self._lifecycle = install(
            runtime,
            start=start,
            identity=identity_of(settings),
            notice=runtime.note,
            failure=runtime.fail,
            disabled=runtime.disabled,
        )
        self.__call__ = _passing(app, runtime, self._lifecycle)

    @property
    def scheduler(self) -> SchedulerHandle:
        """The handle that the app finds in `environ["pulse.scheduler"]`."""
        return self._runtime.handle

    @property
    def runtime(self) -> PulseRuntime:
        """Everything of this middleware; `pulse.testing` runs it on a clock of its own."""
        return self._runtime

    @property
    def bus(self) -> EventBus:
        """The event bus, where listeners subscribe to the events of this process."""
        return self._runtime.bus


def _settle(
    app: object, config: Mapping[str, object] | Settings | None, keywords: Keywords
) -> Settings:
    """Return the settings; the error lists all problems of the settings and of *app*."""
    problems = [] if callable(app) else [f"app: expected a WSGI application, got {shown(app)}"]
    if isinstance(config, Settings):
        problems += [f"{name}: expected no keyword beside loaded Settings" for name in keywords]
        settings = config
    else:
        try:
            settings = load(config, keywords)
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return settings


def _passing(  # noqa: C901 - a function for each rule would cost each request a call
    app: WSGIApplication, runtime: PulseRuntime, lifecycle: ServiceLifecycle
) -> WSGIApplication:
    """Return the WSGI callable that every request calls.

    It is a closure with the names of the headers as literals: lookups through `self` and the module
    would take a fifth of the time that a request may cost here.
    """
    handle, guard, mounts = runtime.handle, runtime.guard, runtime.mounts
    others = frozenset[str]() if mounts is None else mounts.others

    def call(  # noqa: C901 - as above
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if (
            "HTTP_X_PULSE_TASK" in environ
            or "HTTP_X_PULSE_RUN_ID" in environ
            or "HTTP_X_PULSE_FIRE_TIME" in environ
            or "HTTP_X_PULSE_ATTEMPT" in environ
            or "HTTP_X_PULSE_TRIGGER" in environ
        ):
            if is_run(environ):  # of an outer PulseMiddleware, whose handle it has
                return app(environ, start_response)
            _drop_forged(environ)
        if lifecycle.pending:
            lifecycle.first_request(environ)
        if mounts is not None and environ.get("PATH_INFO") not in others:
            answer = mounts.answer(environ, start_response)
            if answer is not None:
                return answer
        if guard is not None:
            try:
                known = (environ["SCRIPT_NAME"], environ["PATH_INFO"]) in guard.allowed
            except KeyError:  # PEP 3333 lets either be absent
                known = False
            if not known and guard.refuses(environ) and not is_run(environ):
                return forbid(environ, start_response)
        environ["pulse.scheduler"] = handle
        return app(environ, start_response)

    return call


def pulse_filter_app_factory(
    app: WSGIApplication, global_conf: Mapping[str, str], **local_conf: str
) -> PulseMiddleware:
    """Return *app* wrapped by pulse; the `paste.filter_app_factory` of `egg:pulse`."""
    settings = load_paste(global_conf, local_conf, call=find_call())
    return PulseMiddleware(app, locate(settings, local_conf, pulse_filter_app_factory))


def pulse_app_factory(_global_conf: Mapping[str, str], **_local_conf: str) -> NoReturn:
    """Refuse to be an application; the `paste.app_factory` of `egg:pulse`.

    Raises:
        ConfigError: always; the message describes the section of a filter.

    """
    raise ConfigError([_NO_APPLICATION])


def _drop_forged(environ: WSGIEnvironment) -> None:
    """Remove pulse's headers from a request that pulse did not make."""
    for name in PULSE_HEADERS:
        environ.pop(name, None)
