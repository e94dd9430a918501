"""The call by which a server loads its application from PasteDeploy, read from the call stack.

Every program that serves an ini file (`pserve -n NAME`, `gunicorn --paste FILE#NAME`, uWSGI, a
module of the site) calls `paste.deploy.loadapp` with the file, the section and the variables of the
command line. A filter's factory is called within that call, so the outermost such call names the
whole application. A child process that makes the same call gets the same application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pulse.config.settings import PasteCall
from pulse.serving.call_stack import frames_out, module_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

_LOADER: Final = "paste.deploy.loadwsgi"


def find_call() -> PasteCall | None:
    """Return the outermost call in progress that loads an application, or None."""
    frames = [frame for frame in frames_out() if module_of(frame) == _LOADER]
    calls = [frame for frame in frames if _loads_application(frame)]
    try:
        return _read(calls[-1].f_locals, frames) if calls else None
    except KeyError:  # PasteDeploy has changed: the setting `application` is needed then
        return None


def _read(outermost: Mapping[str, Any], frames: list[FrameType]) -> PasteCall:
    uri, _, fragment = str(outermost["uri"]).partition("#")
    section = outermost["name"] or fragment or "main"
    inner = [frame.f_locals["name"] for frame in frames if _gets_application(frame)]
    return PasteCall(
        uri=uri,
        section=section,
        relative_to=outermost["relative_to"] or "",
        global_conf=_texts(outermost["global_conf"] or {}),
        within=(section, *(str(name) for name in reversed(inner) if name)),
    )


def _loads_application(frame: FrameType) -> bool:
    wanted = frame.f_locals.get("object_type")
    return frame.f_code.co_name == "loadobj" and getattr(wanted, "name", "") == "application"


def _gets_application(frame: FrameType) -> bool:
    """Return whether a composite loads one of its applications in this frame."""
    return frame.f_code.co_name == "get_app" and "name" in frame.f_locals


def _texts(conf: Mapping[object, object]) -> dict[str, str]:
    return {
        key: value for key, value in conf.items() if isinstance(key, str) and isinstance(value, str)
    }
