"""An application is built more than once in a process: only the served one runs tasks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.marked_site import SERVERS, pserve, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.marked_site import Marked

pytestmark = pytest.mark.server

PLAIN = """
    from itertools import count
    from tests.support.marked_site import Leaf
    from pulse import PulseMiddleware, Task

    numbers = count(1)

    def create_app():
        tasks = {"cleanup": Task(action="/cleanup", interval=0.5)}
        return PulseMiddleware(Leaf(f"app{next(numbers)}"), STORE tasks=tasks)
"""
FLASK = """
    from itertools import count
    from flask import Flask
    from tests.support.marked_site import Leaf
    from pulse import PulseMiddleware, Task

    numbers = count(1)

    def create_app(name=None):
        app = Flask(__name__)
        leaf = Leaf(f"app{next(numbers)}")
        leaf.app = app  # as the method that Flask itself has in this place
        tasks = {"cleanup": Task(action="/cleanup", interval=0.5)}
        app.wsgi_app = PulseMiddleware(leaf, STORE name=name, tasks=tasks)
        return app
"""
STORES = {"default": "", "memory": 'store="memory:",'}


def write_site(folder: Path, text: str, store: str, *lines: str) -> None:
    """Write the module `site_app`, which ends with these lines."""
    path = write(folder, "site_app.py", text.replace("STORE", STORES[store]))
    path.write_text(path.read_text() + "\n".join((*lines, "")))


def assert_ticks_once(server: Marked, mark: str) -> None:
    """Assert that each tick was called once, and all in the app of that mark."""
    calls = server.wait_calls(3)
    assert {call.mark for call in calls} == {mark}, calls
    assert not [at for at, times in Counter(c.fire_time for c in calls).items() if times > 1]


@pytest.mark.parametrize(
    ("text", "store"), [(PLAIN, "default"), (FLASK, "memory")], ids=["plain", "flask"]
)
@pytest.mark.parametrize("kind", SERVERS)
def test_a_dropped_application_runs_no_tasks(
    kind: str, text: str, store: str, tmp_path: Path
) -> None:
    """A factory is called for a migration first; tasks run without a request."""
    write_site(tmp_path, text, store, "create_app()", "app = create_app()")
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert_ticks_once(server, "app2")


@pytest.mark.parametrize("kind", ["gunicorn", "waitress", "uwsgi", "uwsgi lazy"])
def test_a_dropped_application_with_a_name_of_its_own_runs_no_tasks(
    kind: str, tmp_path: Path
) -> None:
    """A Flask app refers to itself, so the garbage collector is called."""
    lines = 'create_app("migration")', 'app = create_app("shop")'
    write_site(tmp_path, FLASK, "default", *lines)
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert_ticks_once(server, "app2")


@pytest.mark.parametrize(
    ("kind", "store"),
    [
        ("gunicorn", "default"),
        ("gunicorn preload", "memory"),
        ("gunicorn gevent", "default"),
        ("waitress", "default"),
        ("waitress", "memory"),
    ],
)
def test_an_application_that_is_kept_but_not_served_runs_no_tasks(
    kind: str, store: str, tmp_path: Path
) -> None:
    """The module has an app of its own, and the server gets the factory."""
    write_site(tmp_path, FLASK, store, "app = create_app()")
    with SERVERS[kind](tmp_path, ["site_app:create_app()"]) as server:
        assert_ticks_once(server, "app2")


@pytest.mark.parametrize("kind", ["gunicorn", "waitress", "uwsgi lazy"])
def test_an_application_that_is_replaced_runs_no_tasks(kind: str, tmp_path: Path) -> None:
    """The name still refers to the first one while the second is built."""
    write_site(tmp_path, PLAIN, "default", "app = create_app()", "app = create_app()")
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert_ticks_once(server, "app2")


@pytest.mark.parametrize("kind", ["gunicorn", "gunicorn gevent", "waitress"])
def test_an_unserved_application_that_is_built_last_runs_no_tasks(
    kind: str, tmp_path: Path
) -> None:
    """The order in which they were built does not matter."""
    write_site(tmp_path, PLAIN, "default", "app = create_app()", "spare = create_app()")
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert_ticks_once(server, "app1")


@pytest.mark.parametrize("kind", ["uwsgi", "uwsgi lazy"])
def test_the_first_request_decides_if_the_server_shows_too_little(
    kind: str, tmp_path: Path
) -> None:
    """The app that receives a request runs its tasks from then on."""
    write_site(tmp_path, PLAIN, "default", "app = create_app()", "spare = create_app()")
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert server.get("/").text == "app1"
        assert_ticks_once(server, "app1")


@pytest.mark.parametrize("kind", ["gunicorn", "waitress"])
def test_an_app_that_finds_its_parts_by_name_runs_its_tasks(kind: str, tmp_path: Path) -> None:
    """A function may call a global of its module."""
    write_site(
        tmp_path,
        PLAIN,
        "default",
        "spare, inner = create_app(), create_app()",
        "def app(environ, start_response):",
        "    return inner(environ, start_response)",
    )
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert_ticks_once(server, "app2")


def test_two_that_are_served_make_gunicorns_start_fail(tmp_path: Path) -> None:
    """Both would use one store under one name; the error names the setting."""
    write_site(
        tmp_path,
        PLAIN,
        "default",
        "from werkzeug.middleware.dispatcher import DispatcherMiddleware",
        "app = DispatcherMiddleware(create_app(), {'/other': create_app()})",
    )
    server = SERVERS["gunicorn"](tmp_path, ["site_app:app"])
    server.start()
    with_status = server.wait_ended(20)
    assert (with_status, server.calls()) == (3, [])
    assert "pulse.config.name: expected one for each PulseMiddleware" in server.log_text()


def test_two_in_memory_that_are_served_both_run_their_tasks(tmp_path: Path) -> None:
    """Each has a store of its own."""
    write_site(
        tmp_path,
        PLAIN,
        "memory",
        "from werkzeug.middleware.dispatcher import DispatcherMiddleware",
        "app = DispatcherMiddleware(create_app(), {'/other': create_app()})",
    )
    with SERVERS["waitress"](tmp_path, ["site_app:app"]) as server:
        server.wait_for(lambda: {c.mark for c in server.calls()} == {"app1", "app2"})


INI = """
    [pipeline:main]
    pipeline = pulse site
    [filter:pulse]
    use = egg:pulse
    pulse.task.cleanup.action = /cleanup
    pulse.task.cleanup.interval = 1
    [app:site]
    paste.app_factory = tests.support.marked_site:make_leaf
    mark = app
    [server:main]
    use = egg:waitress
    listen = 127.0.0.1:%(port)s
"""


@pytest.mark.parametrize("kept", ["", "kept = "], ids=["dropped", "kept"])
@pytest.mark.parametrize("kind", ["gunicorn", "waitress"])
def test_a_paste_file_that_is_loaded_twice_runs_its_tasks_once(
    kind: str, kept: str, tmp_path: Path
) -> None:
    """A start script may load the application first."""
    write(tmp_path, "site.ini", INI)
    write(
        tmp_path,
        "site_app.py",
        f"""
        from pathlib import Path
        from paste.deploy import loadapp
        uri = f"config:{{Path(__file__).with_name('site.ini')}}"
        {kept}loadapp(uri, global_conf={{"port": "1"}})
        app = loadapp(uri, global_conf={{"port": "1"}})
        """,
    )
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert_ticks_once(server, "app")


def test_only_the_second_result_of_an_app_factory_runs_its_tasks(tmp_path: Path) -> None:
    """The factory of an app section drops its first result."""
    write_site(
        tmp_path,
        FLASK,
        "default",
        "def make(global_conf):",
        "    create_app()",
        "    return create_app()",
    )
    write(
        tmp_path,
        "site.ini",
        """
        [app:main]
        paste.app_factory = site_app:make
        [server:main]
        use = egg:waitress
        listen = 127.0.0.1:%(port)s
        """,
    )
    with pserve(tmp_path, "site.ini") as server:
        assert_ticks_once(server, "app2")
