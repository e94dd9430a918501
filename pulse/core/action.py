"""The action of a task: the path that it requests."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from pulse.errors import BadValueError


def read_action(value: object) -> str:
    """Return a path, relative to the context or absolute, with an optional query."""
    expected = "a path such as cleanup or /sessions/cleanup"
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise BadValueError(expected, value)
    path = text.partition("?")[0]
    if "://" in path or path.startswith("//"):
        raise BadValueError(f"{expected} without scheme and host", value)
    if not text.isprintable() or " " in text:
        raise BadValueError(f"{expected} without blanks (write %20, in an ini file %%20)", value)
    if not path:
        raise BadValueError(f"{expected} before the query", value)
    if "#" in text:
        raise BadValueError(f"{expected} without a fragment", value)
    if "." in path and not {".", ".."}.isdisjoint(path.split("/")):
        raise BadValueError(f"{expected} without dot segments", value)
    return text


def target_of(action: str, context: str) -> str:
    """Return the absolute path of *action* below *context*, with its query."""
    if action.startswith("/"):
        return action
    prefix = context.strip("/")
    return f"/{prefix}/{action}" if prefix else f"/{action}"


def path_of(action: str, context: str) -> str:
    """Return the path of *action* below *context* as PATH_INFO (PEP 3333), without its query."""
    return wsgi_path(target_of(action, context).partition("?")[0])


def wsgi_path(path: str) -> str:
    """Return a quoted path as PATH_INFO: unquoted bytes as latin-1 characters (PEP 3333)."""
    if path.isascii() and "%" not in path:
        return path
    return unquote_to_bytes(path).decode("latin-1")
