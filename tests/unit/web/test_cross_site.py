"""Which requests come from another site."""

from __future__ import annotations

import pytest

from pulse.web.cross_site import cross_site_problem

HOST = "shop.example.org"
TRUSTED = ("https://admin.example.org",)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"SEC_FETCH_SITE": "same-origin"}, ""),
        ({"SEC_FETCH_SITE": "none"}, ""),
        ({"SEC_FETCH_SITE": "cross-site"}, "Sec-Fetch-Site"),
        ({"SEC_FETCH_SITE": "same-site"}, "Sec-Fetch-Site"),
        ({"SEC_FETCH_SITE": "cross-site", "ORIGIN": f"https://{HOST}"}, "Sec-Fetch-Site"),
        ({"SEC_FETCH_SITE": "cross-site", "ORIGIN": TRUSTED[0]}, ""),
        ({"SEC_FETCH_SITE": "cross-site", "AUTHORIZATION": "Bearer x"}, "Sec-Fetch-Site"),
        ({"ORIGIN": f"https://{HOST}"}, ""),
        ({"ORIGIN": f"http://{HOST}"}, ""),
        ({"ORIGIN": f"https://{HOST.upper()}"}, ""),
        ({"ORIGIN": f"https://{HOST}:8443"}, "Origin"),
        ({"ORIGIN": f"https://evil.{HOST}"}, "Origin"),
        ({"ORIGIN": "null"}, "Origin"),
        ({"ORIGIN": "http://["}, "Origin"),
        ({"ORIGIN": TRUSTED[0]}, ""),
        ({"ORIGIN": TRUSTED[0] + "/"}, "Origin"),
        ({"AUTHORIZATION": "Bearer x"}, ""),
        ({"AUTHORIZATION": "Basic x"}, "none of them"),
        ({}, "none of them"),
    ],
)
def test_request_of_another_site_is_refused(headers: dict[str, str], expected: str) -> None:
    """The text names the header that differs."""
    environ = {"HTTP_HOST": HOST} | {f"HTTP_{name}": value for name, value in headers.items()}
    problem = cross_site_problem(environ, TRUSTED)
    assert (problem == "") == (expected == "")
    assert expected in problem


def test_request_on_a_local_network_is_judged_by_its_origin() -> None:
    """Over plain http to an address, browsers send no Sec-Fetch-Site."""
    environ = {"HTTP_HOST": "10.0.0.7:8000", "HTTP_ORIGIN": "http://10.0.0.7:8000"}
    assert cross_site_problem(environ) == ""
    assert cross_site_problem({"HTTP_ORIGIN": "http://"}) != ""
