"""Writes pictures of each page of the dashboard: `python -m tests.browser.screenshots FOLDER`.

Both themes, at 1,300 and 380 pixels, with no data, little and much. The pictures are for the
documentation and for eyes; no test compares them.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from pulse import PulseMiddleware
from pulse.testing import travel
from tests.browser.conftest import dashboard_site, many_tasks
from tests.support.dashboard_site import paths_of, travelling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.browser.conftest import Site

MENU = ["", "timeline", "runs", "fleet", "audit", "ledger", "why"]


def main() -> None:
    """Write the pictures, and print where."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.CRITICAL)  # the tasks of the sites fail on purpose
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, site, paths in sites():
            write(browser, folder, name, site, paths)
        browser.close()
    print(folder)  # noqa: T201 - where the pictures are


def sites() -> Iterator[tuple[str, Site, dict[str, str]]]:
    """Yield sites with no data, little and much, and the addresses of their pages by name."""
    menu = {path or "tasks": path for path in MENU}
    with travel(PulseMiddleware(lambda *_: [], tasks={})) as clock, dashboard_site(clock) as site:
        yield "none", site, menu
    with travelling() as clock, dashboard_site(clock) as site:
        pages: dict[str, str] = {}
        for path in paths_of(clock):
            pages.setdefault(path.partition("?")[0].removeprefix("/") or "tasks", path[1:])
        yield "little", site, pages
    with many_tasks() as clock, dashboard_site(clock) as site:
        yield "much", site, menu


def write(browser: Browser, folder: Path, name: str, site: Site, paths: dict[str, str]) -> None:
    """Write the pictures of the pages of a site."""
    for scheme in ("light", "dark"):
        for width in (1_300, 380):
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            for title, path in paths.items():
                page.goto(site.url + path)
                file = folder / f"{title}-{name}-{scheme}-{width}.png"
                page.screenshot(path=file, full_page=True)
            page.close()


if __name__ == "__main__":
    main()
