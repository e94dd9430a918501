"""Every page in a real browser: in both themes, wide and narrow, with no data, little and much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import below, served
from tests.support.dashboard_site import dashboard_of, paths_of, travelling
from tests.support.variants import long_variant

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from tests.browser.conftest import Site, Watched

pytestmark = pytest.mark.server

WIDTHS = (1_300, 380)
LOOKS = [("light", 1_300), long_variant("dark", 1_300), ("dark", 380)]
"""Light at 380 has the colours of the one, and the places of the other."""

EMPTY = ["", "timeline", "runs", "fleet", "audit", "ledger", "why"]
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def look_at(watched: Watched, url: str, paths: list[str]) -> None:
    """Open pages; each fits the width, and axe finds nothing."""
    axe, page = Axe(), watched.page
    for path in paths:
        page.goto(url + path.removeprefix("/"))
        assert page.evaluate(OVERFLOW) <= 0, path
        found = axe.run(page, options={"runOnly": {"type": "tag", "values": TAGS}})
        assert found.response["violations"] == [], (path, found.generate_report())


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_pages_are_accessible_and_fit(
    scheme: str, width: int, shop: Site, open_page: Callable[..., Watched]
) -> None:
    """With little data; confirmations and errors too."""
    watched = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    seen: dict[str, str] = {}
    for path in paths_of(shop.clock):
        seen.setdefault(path.partition("&")[0].partition("?q")[0], path)
    look_at(watched, shop.url, list(seen.values()))
    with watched.page.expect_console_message():  # which names each status of 400 and more
        watched.page.goto(f"{shop.url}task?name=gone")
    assert "Not found" in watched.page.inner_text("h1")
    assert Axe().run(watched.page).response["violations"] == []
    watched.problems.clear()


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_without_data_are_accessible_and_fit(
    width: int, nothing: Site, open_page: Callable[..., Watched]
) -> None:
    """They say what is missing."""
    watched = open_page(viewport={"width": width, "height": 800})
    look_at(watched, nothing.url, EMPTY)


@pytest.mark.parametrize("width", [long_variant(1_300), 380])
def test_pages_with_much_data_are_accessible_and_fit(
    width: int, crowd: Site, open_page: Callable[..., Watched]
) -> None:
    """Also with names that are too long."""
    watched = open_page(color_scheme="dark", viewport={"width": width, "height": 800})
    look_at(watched, crowd.url, ["", "?page=4", "timeline", "runs", "confirm?verb=pause&q=tenant"])


@pytest.mark.parametrize("prefix", ["", "/x", "/x/y"])
@pytest.mark.parametrize("way", ["direct", "stripped"])
def test_pages_and_forms_work_below_any_prefix(
    prefix: str, way: str, open_page: Callable[..., Watched]
) -> None:
    """Whether the proxy passes the prefix on, or strips it."""
    page = open_page().page
    with travelling() as clock:
        inner = below("/_pulse", dashboard_of(clock))

        def proxy(environ: WSGIEnvironment, start_response: StartResponse) -> object:
            path = environ["PATH_INFO"]
            if not path.startswith(f"{prefix}/"):
                start_response("204 No Content", [])
                return []
            environ["PATH_INFO"] = path.removeprefix(prefix)
            environ["SCRIPT_NAME"] = prefix if way == "direct" else ""
            return inner(environ, start_response)

        with served(proxy) as url:  # type: ignore[arg-type] # it is one
            page.goto(f"{url}{prefix}/_pulse")
            assert page.url == f"{url}{prefix}/_pulse/"
            page.click("tr[data-task=cleanup] td.name a")
            page.click("text=Pause…")
            page.fill("#note", "below a prefix")
            page.click("button.primary")
            assert page.url.startswith(f"{url}{prefix}/_pulse/task?name=cleanup")
            assert "by anna: below a prefix" in page.inner_text("#facts")
            page.click("header nav >> text=Timeline")
            assert page.url == f"{url}{prefix}/_pulse/timeline"
