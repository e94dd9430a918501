"""Mode processing: a child calls the application that its parent serves, or none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.marked_site import SERVERS, pserve, write
from tests.support.servers import run_program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.marked_site import Marked

pytestmark = pytest.mark.server

HEAD = """\
from tests.support.marked_site import Leaf
from pulse import PulseMiddleware, Task

def part(mark, application, **words):
    tasks = {"cleanup": Task(action="/cleanup", interval=0.5)}
    return PulseMiddleware(
        Leaf(mark), mode="processing", application=application, tasks=tasks, **words
    )
"""


def write_site(folder: Path, text: str, name: str = "site_app.py") -> None:
    """Write a module that has `part`, which makes a middleware around a leaf."""
    folder.joinpath(name).write_text(f"{HEAD}\n{text}\n")


def marks(server: Marked, count: int = 4) -> set[str]:
    """Return the marks of the apps that were called, after some calls."""
    return {call.mark for call in server.wait_calls(count)}


# By import string --------------------------------------------------------------------------

BY_NAME = """
front, back = part("front", "site_app:app", name="front"), part("back", "site_app:app", name="back")

def app(environ, start_response):
    mounted = back if environ["PATH_INFO"].startswith("/back") else front
    return mounted(environ, start_response)
"""
NESTED = """
inner = part("inner", "site_app:app", name="inner")
app = part("outer", "site_app:app", name="outer")
from werkzeug.middleware.dispatcher import DispatcherMiddleware
app = DispatcherMiddleware(app, {"/inner": inner})
"""


@pytest.mark.parametrize("kind", ["gunicorn", "gunicorn gevent", "waitress", "uwsgi"])
@pytest.mark.parametrize(
    ("text", "expected"), [(BY_NAME, {"front", "back"}), (NESTED, {"inner", "outer"})],
    ids=["by name", "mounted"],
)  # fmt: skip
def test_two_with_the_same_tasks_are_distinguished_by_their_names(
    kind: str, text: str, expected: set[str], tmp_path: Path
) -> None:
    """A run of each middleware calls the application that it wraps."""
    write_site(tmp_path, text)
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        server.wait_for(lambda: {call.mark for call in server.calls()} == expected, 20)


def test_two_without_names_are_distinguished_by_their_stores(tmp_path: Path) -> None:
    """They share no store, so they need no names."""
    write_site(
        tmp_path,
        """
stores = {"front": "sqlite:///front.db", "back": "memory:"}
front, back = (part(mark, "site_app:app", store=stores[mark]) for mark in stores)
def app(environ, start_response):
    return (back if environ["PATH_INFO"].startswith("/back") else front)(environ, start_response)
""",
    )
    with SERVERS["gunicorn"](tmp_path, ["site_app:app"]) as server:
        server.wait_for(lambda: {call.mark for call in server.calls()} == {"front", "back"}, 20)


def test_two_without_names_in_memory_make_the_start_fail(tmp_path: Path) -> None:
    """No child can distinguish them; the error names the setting that does."""
    write_site(
        tmp_path,
        """
front, back = (part(mark, "site_app:app", store="memory:") for mark in ("front", "back"))
def app(environ, start_response):
    return (back if environ["PATH_INFO"].startswith("/back") else front)(environ, start_response)
""",
    )
    server = SERVERS["gunicorn"](tmp_path, ["site_app:app"])
    server.start()
    assert (server.wait_ended(20), server.calls()) == (3, [])
    assert "pulse.config.name: expected one for each PulseMiddleware" in server.log_text()


@pytest.mark.parametrize("kind", ["gunicorn", "gunicorn preload", "waitress"])
def test_another_application_that_a_module_builds_is_not_called(kind: str, tmp_path: Path) -> None:
    """The child builds the same applications, dropped ones and unserved ones too."""
    write_site(
        tmp_path,
        """
part("dropped", "site_app:app")
kept = part("kept", "site_app:app")
app = part("served", "site_app:app")
""",
    )
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        assert marks(server) == {"served"}


@pytest.mark.parametrize("kind", ["gunicorn", "gunicorn preload", "waitress"])
def test_a_factory_is_called_by_the_children_too(kind: str, tmp_path: Path) -> None:
    """The module has another app, which the server does not serve."""
    write_site(
        tmp_path,
        """
from itertools import count
numbers = count(1)
def create_app():
    return part(f"app{next(numbers)}", "site_app:create_app()")
app = create_app()
""",
    )
    with SERVERS[kind](tmp_path, ["site_app:create_app()"]) as server:
        assert marks(server) == {"app2"}


def test_a_setting_that_names_an_unserved_app_makes_the_start_fail(tmp_path: Path) -> None:
    """Its middleware is equal, so its children would call the other application."""
    write_site(tmp_path, 'app, spare = (part(mark, "site_app:spare") for mark in ("app", "spare"))')
    server = SERVERS["gunicorn"](tmp_path, ["site_app:app"])
    server.start()
    assert (server.wait_ended(20), server.calls()) == (3, [])
    assert "application = site_app:spare: expected the application that is" in server.log_text()


def test_runs_fail_in_children_that_load_another_middleware(tmp_path: Path) -> None:
    """A module that the server has not imported holds a middleware of another name."""
    write_site(tmp_path, 'app = part("other", "other_app:app", name="other")', "other_app.py")
    write_site(tmp_path, 'app = part("served", "other_app:app", name="served")')
    with SERVERS["gunicorn"](tmp_path, ["site_app:app"]) as server:
        text = "the parent process, named 'served', got 1 with other settings"
        server.wait_for(lambda: server.log_text().count(text) > 1, 20, "two runs fail")
        assert "cannot run in this process [pid" in server.log_text()
        assert server.calls() == []


# By paste ----------------------------------------------------------------------------------

PULSE = """
[filter:pulse]
use = egg:pulse
pulse.config.mode = processing
pulse.task.cleanup.action = /cleanup
pulse.task.cleanup.interval = 0.5
"""
LEAVES = """
[app:front]
use = call:tests.support.marked_site:make_leaf
mark = front
[app:back]
use = call:tests.support.marked_site:make_leaf
mark = back
[server:main]
use = egg:waitress
listen = 127.0.0.1:%(port)s
"""
TWO = f"""
[pipeline:public]
pipeline = pulse front
[pipeline:administration]
pipeline = pulse back
[composite:main]
use = call:tests.support.marked_site:make_composite
/ = public
[composite:admin]
use = call:tests.support.marked_site:make_composite
/ = administration
{PULSE}{LEAVES}"""
WRAPPED = f"""
[filter-app:main]
use = pulse
next = front
[filter-app:admin]
use = pulse
next = back
{PULSE}{LEAVES}"""
WITH = f"""
[app:main]
use = front
filter-with = pulse
[app:admin]
use = back
filter-with = pulse
{PULSE}{LEAVES}"""
OTHER = f"""
[pipeline:main]
pipeline = pulse front
[app:admin]
use = config:other.ini#inner
{PULSE}{LEAVES}"""


def write_ini(folder: Path, text: str, extra: str = "") -> str:
    """Return the path of an ini file, beside `other.ini`."""
    inner = "[pipeline:inner]\npipeline = pulse back\n"
    folder.joinpath("other.ini").write_text(f"{inner}{PULSE}{LEAVES}")
    return str(write(folder, "site.ini", text.replace(PULSE, PULSE + extra)))


@pytest.mark.parametrize("name", ["main", "admin"])
@pytest.mark.parametrize(
    "text", [TWO, WRAPPED, WITH, OTHER], ids=["composite", "filter-app", "filter-with", "other"]
)
def test_children_of_pserve_load_the_section_that_it_serves(
    text: str, name: str, tmp_path: Path
) -> None:
    """With `pserve -n NAME` other sections may apply the same filter."""
    with pserve(tmp_path, "-n", name, write_ini(tmp_path, text)) as server:
        assert marks(server) == {"front" if name == "main" else "back"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gunicorn", "main"),
        ("gunicorn", "admin"),
        ("gunicorn preload", "admin"),
        ("uwsgi", "admin"),
        ("uwsgi lazy", "admin"),
    ],
)
def test_children_load_the_section_that_another_server_serves(
    kind: str, name: str, tmp_path: Path
) -> None:
    """Examples are `gunicorn --paste FILE#NAME` and uWSGI's `--paste config:FILE#NAME`."""
    uri = f"{write_ini(tmp_path, TWO)}#{name}"
    with SERVERS[kind](tmp_path, ["--paste", uri]) as server:
        assert marks(server) == {"front" if name == "main" else "back"}


def test_children_load_what_a_module_has_loaded(tmp_path: Path) -> None:
    """The server does not read ini files, but the module that it serves does."""
    uri = f"config:{write_ini(tmp_path, TWO)}"
    write(
        tmp_path,
        "site_app.py",
        f"from paste.deploy import loadapp\napp = loadapp({uri!r}, name='admin')\n",
    )
    with SERVERS["waitress"](tmp_path, ["site_app:app"]) as server:
        assert marks(server) == {"back"}


def test_children_get_the_variables_of_the_command_line(tmp_path: Path) -> None:
    """`pserve site.ini colour=x` passes such a variable."""
    text = OTHER.replace("mark = front", "mark = %(colour)s")
    with pserve(tmp_path, write_ini(tmp_path, text), "colour=x") as server:
        assert marks(server) == {"x"}


def test_the_setting_may_name_a_part_of_what_is_served(tmp_path: Path) -> None:
    """Children load only that section."""
    ini = write_ini(tmp_path, TWO, "pulse.config.application = administration\n")
    with pserve(tmp_path, "-n", "admin", ini) as server:
        assert marks(server) == {"back"}


def ended(folder: Path, *words: str) -> str:
    """Return the output of a pserve that fails to start."""
    server = pserve(folder, *words)
    server.start()
    assert server.wait_ended(20) != 0
    assert server.calls() == []
    return server.log_text()


@pytest.mark.parametrize(
    ("application", "text"),
    [
        ("main", "expected 'admin', which is served, or a section that it is made from, got"),
        ("public", "expected 'admin', which is served, or a section that it is made from, got"),
        ("admn", "got 'admn'; did you mean 'admin'?"),
    ],
)
def test_a_setting_that_names_an_unserved_section_makes_the_start_fail(
    application: str, text: str, tmp_path: Path
) -> None:
    """Its children would call another application."""
    ini = write_ini(tmp_path, TWO, f"pulse.config.application = {application}\n")
    log = ended(tmp_path, "-n", "admin", ini)
    assert f"pulse.config.application: {text}" in " ".join(log.split()) or text in log


def test_the_setting_is_required_with_an_unknown_loader(tmp_path: Path) -> None:
    """The file holds several applications with the filter."""
    ini = write_ini(tmp_path, TWO)
    write(
        tmp_path,
        "site_app.py",
        f"""
        from paste.deploy.loadwsgi import ConfigLoader
        app = ConfigLoader({ini!r}).get_app("admin")
        """,
    )
    server = SERVERS["gunicorn"](tmp_path, ["site_app:app"])
    server.start()
    assert (server.wait_ended(20), server.calls()) == (3, [])
    assert "expected the section of config:" in server.log_text()
    assert "should load: one of public, administration" in server.log_text()


# A setting that names no application -------------------------------------------------------

BAD = {
    "nomodule:app": "a module that can be imported, got 'nomodule', which is not found",
    "site_app:ap": "a name in module site_app, got 'ap', which it does not have",
    "site_app:settings": "a WSGI application, got {}, which cannot be called",
    "site_app:create": "a WSGI application, which takes environ and start_response, got <function",
    "__main__:app": "the name of a module that child processes can import, got '__main__'",
}
LATER = {
    "raises:app": "got ZeroDivisionError: division by zero",
    "raises.inner:app": "got ZeroDivisionError: division by zero",
    "leaves:none": "expected a name in module leaves, got 'none', which it does not have",
    "leaves:number": "expected a WSGI application, got 7, which cannot be called",
    "leaves:make()": "expected a WSGI application, got None, which cannot be called",
}
SITE = """
settings = {{}}
def create(): return part("made", "{word}")
app = part("served", "{word}")
"""


@pytest.mark.parametrize("word", BAD)
def test_an_error_that_is_certain_makes_gunicorns_start_fail(word: str, tmp_path: Path) -> None:
    """The error names the setting, what was expected and what was found."""
    write_site(tmp_path, SITE.format(word=word))
    server = SERVERS["gunicorn"](tmp_path, ["site_app:app"])
    server.start()
    assert (server.wait_ended(20), server.calls()) == (3, [])
    assert f"pulse.config.application = {word}: expected {BAD[word]}" in server.log_text()


@pytest.mark.parametrize("word", ["nomodule:app", "site_app:ap", "site_app:settings"])
def test_under_waitress_the_error_is_logged_as_soon_as_the_server_serves(
    word: str, tmp_path: Path
) -> None:
    """The module is being imported during the start; the error is logged before any run."""
    write_site(tmp_path, SITE.format(word=word).replace("interval=0.5", "interval=3600"))
    server = SERVERS["waitress"](tmp_path, ["site_app:app"])
    server.start()
    try:
        text = f"pulse.config.application = {word}: expected {BAD[word]}"
        server.wait_for(lambda: text in server.log_text(), 20, "the error")
    finally:
        server.close()


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        *(("gunicorn", word) for word in LATER),
        ("gunicorn gevent", "raises:app"),
        ("waitress", "raises:app"),
        ("waitress", "leaves:make()"),
    ],
)
def test_an_error_that_only_an_import_shows_is_logged_before_the_first_run(
    kind: str, word: str, tmp_path: Path
) -> None:
    """A child imports the module; the server does not."""
    text = SITE.format(word=word)
    tmp_path.joinpath("site_app.py").write_text(HEAD.replace("0.5", "3600") + text)
    tmp_path.joinpath("leaves.py").write_text("number, make = 7, lambda: None\n")
    package = tmp_path / "raises"
    package.mkdir()
    package.joinpath("__init__.py").write_text("1 / 0\n")
    package.joinpath("inner.py").write_text("app = None\n")
    with SERVERS[kind](tmp_path, ["site_app:app"]) as server:
        server.wait_for(lambda: "cannot run in this process" in server.log_text(), 20)
        server.wait_for(lambda: LATER[word] in server.log_text(), 5)
        assert "pulse.config.application" in server.log_text()
        assert server.log_text().count("cannot run in this process") == 1


def test_a_section_without_pulse_is_logged_before_the_first_run(tmp_path: Path) -> None:
    """It is a part of the served application, and can be loaded."""
    ini = write_ini(tmp_path, TWO, "pulse.config.application = back\n")
    with pserve(tmp_path, "-n", "admin", ini) as server:
        text = "expected section back of config:"
        server.wait_for(lambda: text in server.log_text(), 20, "the error")
        assert "cannot run in this process" in server.log_text()


def test_under_other_servers_the_first_request_logs_the_error(tmp_path: Path) -> None:
    """The request is answered, and the error says why nothing runs."""
    write_site(tmp_path, SITE.format(word="nomodule:app"))
    tmp_path.joinpath("serve.py").write_text(
        "import sys, threading, urllib.request\n"
        "from wsgiref.simple_server import make_server\n"
        "from site_app import app\n"
        "server = make_server('127.0.0.1', 0, app)\n"
        "threading.Thread(target=server.handle_request).start()\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{server.server_port}').read())\n"
    )
    done = run_program(
        [sys.executable, "serve.py"],
        folder=tmp_path,
        environ={"XDG_STATE_HOME": str(tmp_path), "CALLS": str(tmp_path / "calls")},
    )
    assert "b'served'" in done.stdout
    assert "cannot run in this process [pid" in done.stdout
    assert "pulse.config.application = nomodule:app: expected a module" in done.stdout
