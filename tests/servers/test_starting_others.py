"""Under an undetected server pulse starts at the first request, and never without a server."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.server_logs import Witnessed, read_events, write_ini
from tests.support.servers import free_port, program, run_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server

FLASK_APP = """
from flask import Flask
from tests.support import probe

app = Flask(__name__)
app.add_url_rule("/", "here", lambda: str(__import__("os").getpid()))
app.wsgi_app = probe.wrap(app.wsgi_app)
"""

DJANGO_APP = """
import os, sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from tests.support import probe

settings.configure(
    DEBUG=True, SECRET_KEY="not secret", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"],
    WSGI_APPLICATION="site_app.application", INSTALLED_APPS=["django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
urlpatterns = [path("", lambda request: HttpResponse(str(os.getpid())))]
application = probe.wrap(get_wsgi_application())

if __name__ == "__main__":
    sys.modules["site_app"] = sys.modules["__main__"]
    execute_from_command_line(sys.argv)
"""

PROGRAMS = {
    "wsgiref": "from wsgiref.simple_server import make_server\n"
    "make_server('127.0.0.1', {port}, app).serve_forever()\n",
    "werkzeug": "from werkzeug.serving import run_simple\n"
    "run_simple('127.0.0.1', {port}, app, threaded=True)\n",
    "waitress": "import waitress\nwaitress.serve(app, listen='127.0.0.1:{port}')\n",
    "gevent": "from gevent.pywsgi import WSGIServer\n"
    "WSGIServer(('127.0.0.1', {port}), app).serve_forever()\n",
    "gevent-patched": "from gevent.pywsgi import WSGIServer\n"
    "WSGIServer(('127.0.0.1', {port}), app).serve_forever()\n",
}


def script(name: str, port: int) -> str:
    """Return a program that serves the probe with the server of that name."""
    patch = "from gevent import monkey; monkey.patch_all()\n" if name == "gevent-patched" else ""
    return patch + "from tests.support.probe_app import app\n" + PROGRAMS[name].format(port=port)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_server_in_a_script_starts_at_the_first_request(name: str, tmp_path: Path) -> None:
    """Nothing starts before the first request; eight concurrent requests start it once."""
    port = free_port()
    command = [sys.executable, "-c", script(name, port)]
    with Witnessed(command, port=port, folder=tmp_path) as server:
        before = server.pids("start")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: server.get("/?nap=0.05"), range(8)))

        assert before == []
        assert server.pids("start") == [server.pid]
    assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
def test_flask_run_starts_at_the_first_request(debug: tuple[str, ...], tmp_path: Path) -> None:
    """The service starts in the process that answers, never in the reloader's parent."""
    (tmp_path / "flask_app.py").write_text(FLASK_APP)
    port = free_port()
    command = [program("flask"), "--app", "flask_app", "run", "--port", str(port), *debug]
    with Witnessed(command, port=port, folder=tmp_path) as server:
        before = server.pids("start")
        served = int(server.get().text)

        assert (before, server.pids("start")) == ([], [served])
        assert (served == server.pid) is not bool(debug)


@pytest.mark.parametrize("reload", [(), ("--noreload",)], ids=["reload", "noreload"])
def test_runserver_starts_at_the_first_request(reload: tuple[str, ...], tmp_path: Path) -> None:
    """The service starts in the process that answers, never in the reloader's parent."""
    (tmp_path / "site_app.py").write_text(DJANGO_APP)
    port = free_port()
    command = [sys.executable, "site_app.py", "runserver", f"127.0.0.1:{port}", *reload]
    with Witnessed(command, port=port, folder=tmp_path) as server:
        before = server.pids("start")
        served = int(server.get().text)

        assert (before, server.pids("start")) == ([], [served])
        assert (served == server.pid) is bool(reload)


def events_of(command: list[str], folder: Path, *, text: str = "") -> list[str]:
    """Return the names of the events of a program that exited with 0."""
    path = folder / "events.txt"
    done = run_program(command, folder=folder, environ={"PROBE_FILE": str(path)}, text=text)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return [event.name for event in read_events(path)]


def test_flask_routes_starts_nothing(tmp_path: Path) -> None:
    """`flask routes` only builds the application."""
    (tmp_path / "flask_app.py").write_text(FLASK_APP)
    command = [program("flask"), "--app", "flask_app", "routes"]

    assert events_of(command, tmp_path) == ["built"]


def test_flask_shell_starts_nothing_even_if_it_requests(tmp_path: Path) -> None:
    """In `flask shell` neither building nor a test client starts anything."""
    (tmp_path / "flask_app.py").write_text(FLASK_APP)
    command = [program("flask"), "--app", "flask_app", "shell"]
    text = "assert app.test_client().get('/').status_code == 200\n"

    assert events_of(command, tmp_path, text=text) == ["built"]


def test_prequest_starts_nothing(tmp_path: Path) -> None:
    """Pyramid's `prequest` requests the application without serving it."""
    ini = write_ini(tmp_path, "use = egg:waitress")
    command = [program("prequest"), str(ini), "/"]

    assert events_of(command, tmp_path) == ["built"]


def test_a_migration_starts_nothing(tmp_path: Path) -> None:
    """`migrate` builds the application and starts nothing."""
    (tmp_path / "site_app.py").write_text(DJANGO_APP)
    command = [sys.executable, "site_app.py", "migrate"]

    assert events_of(command, tmp_path) == ["built"]


BY_HAND = "from webob import Request\nRequest.blank('/', {marks}).get_response(app)\n"
REQUESTS_OF_NO_SERVER = {
    "webtest": "from webtest import TestApp\nTestApp(app).get('/')",
    "werkzeug": "from werkzeug.test import Client\nClient(app).get('/')",
    "paste.testing": BY_HAND.replace("{marks}", "{'paste.testing': True}"),
    "pytest": "import pytest\n" + BY_HAND.replace("{marks}", "{}"),
    "shell": "import sys\nsys.ps1 = '>>> '\n" + BY_HAND.replace("{marks}", "{}"),
}


@pytest.mark.parametrize("kind", REQUESTS_OF_NO_SERVER)
def test_a_request_that_shows_no_server_starts_nothing(kind: str, tmp_path: Path) -> None:
    """Test clients, interactive shells and pytest request the application and start nothing."""
    if kind == "webtest":
        # The client's own package is not needed: what counts is the module that calls.
        (tmp_path / "webtest.py").write_text(
            "from webob import Request\n"
            "class TestApp:\n"
            "    def __init__(self, app): self.app = app\n"
            "    def get(self, path): return Request.blank(path).get_response(self.app)\n"
        )
    command = [
        sys.executable,
        "-c",
        f"from tests.support.probe_app import app\n{REQUESTS_OF_NO_SERVER[kind]}\n",
    ]

    assert events_of(command, tmp_path) == ["built", "loaded"]


def test_a_child_that_the_application_forks_starts_nothing_unless_it_serves(tmp_path: Path) -> None:
    """A fork of the application starts nothing, and shuts down nothing of its parent."""
    code = (
        "import os\n"
        "from webob import Request\n"
        "from tests.support.probe_app import app\n"
        "Request.blank('/').get_response(app)\n"
        "if not (pid := os.fork()):\n"
        "    raise SystemExit\n"
        "os.waitpid(pid, 0)\n"
    )
    names = events_of([sys.executable, "-c", code], tmp_path)

    assert names == ["built", "loaded", "start", "stop_claiming", "shutdown", "shut_down"]


def test_a_forked_child_that_serves_starts_a_service_of_its_own(tmp_path: Path) -> None:
    """The first request in the child starts it, and the child's exit shuts it down."""
    code = (
        "import os\n"
        "from webob import Request\n"
        "from tests.support.probe_app import app\n"
        "Request.blank('/').get_response(app)\n"
        "if not (pid := os.fork()):\n"
        "    Request.blank('/').get_response(app)\n"
        "    raise SystemExit\n"
        "os.waitpid(pid, 0)\n"
    )
    names = events_of([sys.executable, "-c", code], tmp_path)

    assert names == [
        "built",
        "loaded",
        "start",
        *["start", "stop_claiming", "shutdown", "shut_down"],
        *names[-3:],
    ]


def test_a_dropped_middleware_is_not_kept_alive(tmp_path: Path) -> None:
    """Only its owner keeps a lifecycle alive."""
    code = (
        "import gc, weakref\n"
        "from tests.support.probe import Probe, hello\n"
        "probe = Probe(hello)\n"
        "seen = weakref.ref(probe.lifecycle)\n"
        "del probe\n"
        "gc.collect()\n"
        "assert seen() is None\n"
    )

    assert events_of([sys.executable, "-c", code], tmp_path) == ["built"]


def test_building_starts_and_opens_nothing(tmp_path: Path) -> None:
    """Import and construction add no threads, file descriptors or files."""
    code = (
        "import os, threading\n"
        "before = os.listdir('/proc/self/fd')\n"
        "from pulse.core.policies import Start\n"
        "from pulse.serving import install\n"
        "from tests.support.probe import Witness\n"
        "kept = install(Witness('quiet'))\n"
        "assert os.listdir('/proc/self/fd') == before\n"
        "assert len(os.listdir('/proc/self/task')) == threading.active_count() == 1\n"
        "assert kept.pending\n"
    )

    assert events_of([sys.executable, "-c", code], tmp_path) == []
    assert list(tmp_path.iterdir()) == []
