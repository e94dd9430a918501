"""Which application a child dispatches into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.child.__main__ import choose, find_dispatcher, load_app
from pulse.child.discovery import Announcement, announce, gathering
from pulse.engine.child_protocol import ChildSetup
from pulse.errors import EngineError
from tests.support import child_app
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from pathlib import Path

SETUP = ChildSetup(application="tests.support.child_app:app", digest="inner")
INI = """\
[app:main]
paste.app_factory = tests.support.child_app:make_outermost

[app:bare]
paste.app_factory = tests.support.child_app:make_bare
"""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Return the URI of an ini file with a wrapped application and a bare one."""
    path = tmp_path / "app.ini"
    path.write_text(INI)
    return f"config:{path}"


def test_an_announcement_is_heard_only_while_somebody_gathers() -> None:
    """Outside of a child's loading an announcement does nothing."""
    announcement = Announcement("digest", child_app.app, {})
    with gathering() as found:
        heard = announce(announcement)
    assert (found, heard, announce(announcement)) == ([announcement], True, False)


def test_the_announcement_with_the_parents_digest_is_chosen() -> None:
    """Of several middlewares the one with the parent's settings counts."""
    found = [Announcement(digest, child_app.app, {}) for digest in ("outer", "inner", "other")]
    assert choose(found, child_app.app, SETUP) is found[1]


def test_an_application_without_a_middleware_is_called_as_it_is() -> None:
    """Who names the bare application means it."""
    assert choose([], child_app.app, SETUP) == Announcement("inner", child_app.app, {})


def test_other_middlewares_are_refused_with_the_place_named() -> None:
    """Nothing is called by guess."""
    with pytest.raises(
        EngineError, match=r"expected tests.support.child_app:app to hold .* got 1 with other"
    ):
        choose([Announcement("x", child_app.app, {})], child_app.app, SETUP)


def test_a_paste_application_is_loaded_by_its_section(uri: str) -> None:
    """The section says which application of the file is meant."""
    setup = ChildSetup(paste_uri=uri, paste_section="bare", global_conf={"debug": "true"})
    assert load_app(setup) is child_app.app


def test_a_paste_application_is_dispatched_into_below_its_middleware(uri: str) -> None:
    """What the middleware of the paste file wraps is what is called."""
    dispatcher = find_dispatcher(ChildSetup(paste_uri=uri, digest="paste"))
    assert dispatcher.call(make_claim(action="/pid")).status == 200


def test_a_paste_application_without_a_middleware_is_refused(uri: str) -> None:
    """A paste file that holds no pulse is not the file that the parent was loaded from."""
    with pytest.raises(EngineError, match=r"section bare, to hold a PulseMiddleware, got none"):
        find_dispatcher(ChildSetup(paste_uri=uri, paste_section="bare"))
