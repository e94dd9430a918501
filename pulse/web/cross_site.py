"""Refuses requests that another site has made the user's browser send.

The order is that of Go 1.25's `http.CrossOriginProtection`: trusted origins, then the header
`Sec-Fetch-Site`, then `Origin` against `Host`. Browsers send no `Sec-Fetch-Site` over plain http to
a host that is not this one, so that `Origin` decides there. Basic credentials are sent by browsers
by themselves; a bearer token is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def cross_site_problem(environ: Mapping[str, Any], trusted: Collection[str] = ()) -> str:
    """Return why a request that changes something is refused; an empty text if it is not."""
    origin = environ.get("HTTP_ORIGIN", "")
    if origin and origin in trusted:
        return ""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        if site in {"same-origin", "none"}:
            return ""
        return (
            f"Sec-Fetch-Site: expected same-origin or none, got {site}; set"
            " pulse.config.trusted_origins for a site of your own"
        )
    if origin:
        host = environ.get("HTTP_HOST", "")
        if host and _host_of(origin) == host.lower():
            return ""
        return (
            f"Origin: expected the host of the request, {host}, got {origin}; if a proxy changes"
            " Host, set pulse.config.trusted_origins to that origin"
        )
    scheme = environ.get("HTTP_AUTHORIZATION", "").partition(" ")[0].lower()
    if scheme == "bearer":
        return ""
    return (
        "expected Sec-Fetch-Site or Origin, as browsers send them, or a bearer token, got none of"
        " them"
    )


def _host_of(origin: str) -> str:
    """Return the host and port of an origin; an empty text if it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
