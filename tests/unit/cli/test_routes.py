"""`pulse check package.module:app` reports actions that no view answers, without a call."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TASKS = """
from pulse import PulseMiddleware, Task

def tasks():
    names = ("good", "post", "slash", "none")
    return {name: Task(action=f"/{name}", interval=60) for name in names}
"""

FLASK = """
from flask import Flask

app = Flask("site")


def view():
    raise AssertionError("the view was called")


app.add_url_rule("/good", "good", view)
app.add_url_rule("/post", "post", view, methods=["POST"])
app.add_url_rule("/slash/", "slash", view)
app.wsgi_app = PulseMiddleware(app.wsgi_app, store="memory:", tasks=tasks())
"""

DJANGO = """
import django
from django.conf import settings

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"])
django.setup()

from django.core.wsgi import get_wsgi_application
from django.urls import path


def view(request):
    raise AssertionError("the view was called")


urlpatterns = [path("good", view), path("post", view), path("slash/", view)]
app = PulseMiddleware(get_wsgi_application(), store="memory:", tasks=tasks())
"""

PYRAMID = """
from pyramid.config import Configurator


def view(request):
    raise AssertionError("the view was called")


with Configurator() as config:
    for name in ("good", "post", "slash"):
        config.add_route(name, f"/{name}")
    config.add_view(view, route_name="good")
    config.add_view(view, route_name="post", request_method="POST")
    TRAVERSAL
    site = config.make_wsgi_app()
app = PulseMiddleware(site, store="memory:", tasks=tasks())
"""

PLAIN = """
def site(environ, start_response):
    raise AssertionError("the application was called")


app = PulseMiddleware(site, store="memory:", tasks=tasks())
"""


def problems_of(text: str, folder: Path) -> list[str]:
    """Return the problems that `pulse check` reports about a site."""
    (folder / "routed_site.py").write_text(TASKS + text)
    done = subprocess.run(
        [sys.executable, "-m", "pulse", "check", "routed_site:app"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (2 if done.stderr else 0), done.stderr
    lines = done.stderr.splitlines()
    return [line.removeprefix("error: [routed_site:app] ") for line in lines]


EXPECTED = "expected a URL that a view answers, got"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            FLASK,
            [
                "post.action: expected a method of /post (OPTIONS, POST), got GET; set method",
                f"slash.action: {EXPECTED} /slash, which redirects to http://localhost/slash/",
                f"none.action: {EXPECTED} /none, which no route of Flask matches",
            ],
        ),
        (
            DJANGO,
            [
                (
                    f"slash.action: {EXPECTED} /slash, which no URL pattern matches; Django"
                    " redirects it to /slash/, and no redirect is followed"
                ),
                f"none.action: {EXPECTED} /none, which no URL pattern matches",
            ],
        ),
        (
            PYRAMID.replace("TRAVERSAL", ""),
            [
                "post.action: expected a method of /post (POST), got GET; set method",
                f"slash.action: {EXPECTED} /slash: route slash has no view",
                f"none.action: {EXPECTED} /none, which no route of Pyramid matches",
            ],
        ),
        (
            PYRAMID.replace("TRAVERSAL", 'config.add_view(view, name="none")'),
            [
                "post.action: expected a method of /post (POST), got GET; set method",
                f"slash.action: {EXPECTED} /slash: route slash has no view",
            ],
        ),
        (PLAIN, []),
    ],
    ids=["flask", "django", "pyramid", "traversal", "plain"],
)
def test_action_that_no_view_answers_is_a_problem(
    text: str, expected: list[str], tmp_path: Path
) -> None:
    """As far as the framework can tell; nothing is called."""
    assert problems_of(text, tmp_path) == expected
