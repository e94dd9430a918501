"""Reads an ini file as PasteDeploy does, and lists the calls of factories that build applications.

PasteDeploy resolves the references between sections itself: `use`, pipelines, `filter-with`,
`[DEFAULT]` and other files mean here what they mean to a server. Modules of factories are imported,
no application is built. A composite names its applications only by calls of its factory, so the
factory of a composite is called, with a loader that returns stand-ins for applications and filters.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from paste.deploy import loadwsgi
from paste.deploy.util import fix_call

from pulse.errors import PulseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

APP: Final[Any] = loadwsgi.APP
FILTER: Final[Any] = loadwsgi.FILTER
APP_KINDS: Final = frozenset(
    {"app", "application", "composite", "composit", "pipeline", "filter-app"}
)
_OWN_PART: Final = {loadwsgi.FILTER_WITH: "next_context", loadwsgi.FILTER_APP: "filter_context"}
"""The part of a combined context that the section itself describes, by the type of the context."""

_FILTERED: Final = {
    loadwsgi.PIPELINE: "a pipeline",
    loadwsgi.FILTER_APP: "a filter-app",
    loadwsgi.FILTER_WITH: "an application with a filter-with of its own",
}
"""What `filter-with` may wrongly filter, by the type of the context."""

_COMPOSITES: Final = frozenset({"paste.composite_factory", "paste.composit_factory"})


class Place(NamedTuple):
    """A section of a file, such as `filter:pulse` of `/srv/site.ini`."""

    file: str
    section: str


class FactoryCall(NamedTuple):
    """One call of a factory, which PasteDeploy makes when it builds an application.

    Attributes:
        way: the sections that lead to the call, outermost first.
        protocol: the protocol of PasteDeploy by which the factory is called.

    """

    way: tuple[Place, ...]
    factory: object
    protocol: str
    global_conf: Mapping[str, str]
    local_conf: Mapping[str, str]


_EMPTY_PIPELINE: Final = (
    "pipeline: expected the names of filters and at last of an application, got none; name the"
    " application"
)


class UnreadableError(PulseError):
    """PasteDeploy cannot read a section; `way` leads to it, outermost first."""

    def __init__(self, way: tuple[Place, ...], cause: Exception) -> None:
        self.way = way
        self.cause = cause
        super().__init__(str(cause))


class UnusableSectionError(LookupError):
    """PasteDeploy cannot build a section; the text of the error needs no name of a class."""


class Fault(NamedTuple):
    """A section that PasteDeploy builds, and that cannot serve; `way` leads to it."""

    way: tuple[Place, ...]
    problem: str


_FILTERS_NO_APPLICATION: Final = (
    "filter-with: expected an application that a factory makes, got {got}: PasteDeploy makes a"
    " filter of it, so each request fails with a TypeError; put the filter into the pipeline"
)


class PasteTree:
    """The sections of one ini file, and of the files to which they refer.

    Args:
        file: the ini file.
        global_conf: the variables that the server adds to `[DEFAULT]`.
        composites: whether the factories of composites are called, to learn what they load.
        uncalled: factories that are not called, even if a composite uses them.

    Attributes:
        file: the real path of the file.
        sections: the full names of the sections of the file.
        visited: the places that were read so far.
        faults: the sections that cannot serve, of what the last call of `calls` read.

    Raises:
        OSError: the file cannot be opened.
        configparser.Error: the file is not an ini file.
        UnicodeDecodeError: likewise.

    """

    def __init__(
        self,
        file: Path,
        global_conf: Mapping[str, str],
        *,
        composites: bool = True,
        uncalled: Iterable[object] = (),
    ) -> None:
        filename = str(file.absolute())
        self.file: str = str(file.resolve())
        self._global_conf = dict(global_conf)
        self._calls_composites = composites
        self._uncalled = tuple(uncalled)
        self._way: tuple[Place, ...] = ()
        self._failed_at: tuple[Place, ...] = ()
        self.visited: set[Place] = set()
        self.faults: list[Fault] = []
        self._loader = _TrackingLoader(filename, self)
        self._loader.update_defaults(self._global_conf, overwrite=False)
        self.sections: tuple[str, ...] = tuple(self._loader.parser.sections())

    def calls(self, kind: object, name: str | None) -> list[FactoryCall]:
        """Return the calls that build an application or a filter of the file.

        Args:
            kind: `APP` or `FILTER`.
            name: the name of the section, without its kind; None for a section without a name.

        Raises:
            UnreadableError: PasteDeploy cannot read the section, or one to which it refers.

        """
        self._way, self._failed_at, self.faults = (), (), []
        try:
            context = self._loader.get_context(kind, name, self._global_conf)
            return list(self._calls_of(context))
        # Importing the module of a factory may raise anything; a server would fail alike.
        except Exception as error:
            raise UnreadableError(self._failed_at, error) from error

    @contextlib.contextmanager
    def within(self, place: Place) -> Iterator[None]:
        """Add *place* to the way; the first error keeps the way at which it was raised."""
        if place in self._way:
            names = [f"[{each.section}]" for each in (*self._way[self._way.index(place) :], place)]
            raise UnusableSectionError(f"the section refers to itself: {' -> '.join(names)}")
        before = self._way
        self._way = (*before, place)
        self.visited.add(place)
        try:
            yield
        except Exception:
            self._failed_at = self._failed_at or self._way
            raise
        finally:
            self._way = before

    @property
    def way(self) -> tuple[Place, ...]:
        """The sections that are being read, outermost first."""
        return self._way

    def _calls_of(self, context: Any) -> Iterator[FactoryCall]:  # noqa: ANN401 - PasteDeploy has no types
        parts = ["app_context", "next_context", "filter_context"]
        if got := _misfiltered(context):
            self.faults.append(Fault(context.first_way, _FILTERS_NO_APPLICATION.format(got=got)))
            parts.remove("filter_context")  # the filter is never called with an application
        for part in parts:
            if hasattr(context, part):
                yield from self._calls_of(getattr(context, part))
        for inner_filter in getattr(context, "filter_contexts", ()):
            yield from self._calls_of(inner_filter)
        if context.object_type not in (APP, FILTER):
            return
        yield FactoryCall(
            way=_way_of(context),
            factory=context.object,
            protocol=context.protocol,
            global_conf=context.global_conf,
            local_conf=context.local_conf,
        )
        if self._names_applications(context):
            for mounted in self._mounted(context):
                yield from self._calls_of(mounted)

    def _names_applications(self, context: Any) -> bool:  # noqa: ANN401 - PasteDeploy has no types
        if not self._calls_composites or context.protocol not in _COMPOSITES:
            return False
        return not any(context.object is each for each in self._uncalled)

    def _mounted(self, context: Any) -> list[Any]:  # noqa: ANN401 - PasteDeploy has no types
        """Return the contexts that the factory of a composite loads."""
        way, self._way = self._way, _way_of(context)
        recorder = _RecordingLoader(context.loader)
        try:
            fix_call(context.object, recorder, context.global_conf, **context.local_conf)
        # The factory may expect more of an application than a stand-in has.
        except Exception:
            if recorder.error is not None:  # an application that it needs cannot be read
                self._failed_at = self._failed_at or self._way
                raise
            recorder.contexts = recorder.contexts or _named_applications(context)
        finally:
            self._way = way
        self._failed_at = ()  # the factory may do without an application
        return recorder.contexts


class _TrackingLoader(loadwsgi.ConfigLoader):  # type: ignore[misc] # PasteDeploy has no types
    """Notes for each context the sections that lead to it, as its attribute `way`."""

    def __init__(self, filename: str, tree: PasteTree) -> None:
        super().__init__(filename)
        self._tree = tree

    def get_context(
        self, object_type: object, name: str | None = None, global_conf: object = None
    ) -> Any:  # noqa: ANN401 - PasteDeploy has no types
        """Return a context as PasteDeploy does."""
        if self.absolute_name(name):
            if name is not None and name.lower().startswith("config:"):
                return self._context_of_file(object_type, name, global_conf)
            return self._noted(super().get_context(object_type, name, global_conf))
        section = self.find_config_section(object_type, name=name)
        place = Place(str(Path(self.filename).resolve()), section)
        with self._tree.within(place):
            return self._noted(super().get_context(object_type, name, global_conf))

    def _pipeline_app_context(self, *args: Any, local_conf: dict[str, str], **keywords: Any) -> Any:  # noqa: ANN401 - PasteDeploy has no types
        """Return the context of a pipeline, which needs at least an application."""
        if "pipeline" in local_conf and not local_conf["pipeline"].split():
            raise UnusableSectionError(_EMPTY_PIPELINE)
        return super()._pipeline_app_context(*args, local_conf=local_conf, **keywords)

    def _context_of_file(self, object_type: object, uri: str, global_conf: Any) -> Any:  # noqa: ANN401 - likewise
        """Return a context of another file, as `paste.deploy.loadwsgi._loadconfig` does."""
        path, _, name = uri.partition(":")[2].partition("#")
        file = unquote(str(Path(self.filename).parent / path.replace("\\", "/")))
        loader = _TrackingLoader(file, self._tree)
        if global_conf:
            loader.update_defaults(global_conf, overwrite=False)
        return loader.get_context(object_type, name or "main", global_conf)

    def _noted(self, context: Any) -> Any:  # noqa: ANN401 - likewise
        """Note the way; a section that overrides another one by `use` counts as the origin."""
        if not hasattr(context, "way"):
            context.first_way = self._tree.way
            own = _OWN_PART.get(context.object_type)
            if own:
                getattr(context, own).way = self._tree.way
        context.way = self._tree.way
        return context


class _RecordingLoader:
    """The loader that the factory of a composite gets: it builds nothing."""

    def __init__(self, loader: Any) -> None:  # noqa: ANN401 - likewise
        self._loader = loader
        self.contexts: list[Any] = []
        self.error: Exception | None = None

    def get_app(self, name: str | None = None, global_conf: object = None) -> object:
        """Return a stand-in for an application."""
        self._record(APP, name, global_conf)
        return _stand_in

    def get_filter(self, name: str | None = None, global_conf: object = None) -> object:
        """Return a filter that returns its application unchanged."""
        self._record(FILTER, name, global_conf)
        return _unchanged

    def _record(self, kind: object, name: str | None, global_conf: object) -> None:
        try:
            self.contexts.append(self._loader.get_context(kind, name, global_conf))
        except Exception as error:
            self.error = error
            raise


def _way_of(context: Any) -> tuple[Place, ...]:  # noqa: ANN401 - PasteDeploy has no types
    return getattr(context, "way", ())  # a loader of a package, not of a file, notes none


def _misfiltered(context: Any) -> str:  # noqa: ANN401 - PasteDeploy has no types
    """Return what `filter-with` filters, if PasteDeploy takes an application for a filter.

    `paste.deploy.loadwsgi._FilterWith` recognises only what the factory of an application makes.
    """
    if context.object_type is not loadwsgi.FILTER_WITH:
        return ""
    inner = context.next_context
    while inner.object_type is loadwsgi.FILTER_WITH:
        inner = inner.next_context
    if inner.object_type is FILTER or context.next_context.object_type is APP:
        return ""
    return _FILTERED.get(context.next_context.object_type, "")


def _named_applications(context: Any) -> list[Any]:  # noqa: ANN401 - PasteDeploy has no types
    """Return the applications whose names are words of the settings of a composite."""
    found = []
    words = [word for value in context.local_conf.values() for word in str(value).split()]
    for word in words:
        with contextlib.suppress(LookupError, ValueError, OSError):
            found.append(context.loader.get_context(APP, word.strip(","), context.global_conf))
    return found


def _stand_in(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [])
    return []


def _unchanged(app: Callable[..., object]) -> Callable[..., object]:
    return app
