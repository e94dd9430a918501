"""A Django project in one module: Django allows its settings to be made once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from wsgiref.types import WSGIApplication


def make_django_app(database: Path) -> WSGIApplication:
    """Return a new WSGI app on these views, its database in that file."""
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=[],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            DEBUG=False,
            LOGGING_CONFIG=None,
            MIDDLEWARE=[
                "django.middleware.security.SecurityMiddleware",
                "django.middleware.common.CommonMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware",
            ],
            ROOT_URLCONF=__name__,
            SECRET_KEY="not-a-secret",  # noqa: S106 - a test's
        )
        django.setup()
    connection.close()
    connection.settings_dict["NAME"] = str(database)
    from django.core.wsgi import WSGIHandler

    return WSGIHandler()


def count(_request: HttpRequest) -> HttpResponse:
    """Query the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))


def stream(_request: HttpRequest) -> StreamingHttpResponse:
    """Query the database while the body is sent."""

    def rows() -> Iterator[str]:
        with connection.cursor() as cursor:
            cursor.execute("VALUES (1), (2), (3)")
            for (number,) in cursor.fetchall():
                yield f"{number} "

    return StreamingHttpResponse(rows())


def broken(_request: HttpRequest) -> HttpResponse:
    """Query a table that does not exist."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM nowhere")
    return HttpResponse("never")


@csrf_exempt
def echo(request: HttpRequest) -> JsonResponse:
    """Return what was sent."""
    return JsonResponse({"body": request.body.decode(), "kind": request.content_type})


def where(request: HttpRequest) -> HttpResponse:
    """Return the address that was requested."""
    return HttpResponse(request.build_absolute_uri())


urlpatterns = [
    path("count", count),
    path("stream", stream),
    path("broken", broken),
    path("echo", echo),
    path("where", where),
    path("slash/", where),
]
