"""Time travel inside a Django test: its transaction stays open."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, transaction
from django.test.utils import override_settings

from pulse import PulseMiddleware, Task
from pulse.testing import travel
from tests.support.django_site import make_django_app
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from wsgiref.types import WSGIApplication

    from tests.support.postgres import PostgresCluster

ACTIONS = {"count": "succeeded", "stream": "succeeded", "broken": "failed"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WSGIApplication]:
    """Return a Django project with its database in a file, which a connection can lose."""
    app = make_django_app(tmp_path / "site.sqlite")
    with override_settings(ALLOWED_HOSTS=["localhost"]):
        yield app
    connection.close()


def hourly(site: WSGIApplication, action: str) -> PulseMiddleware:
    """Return the project with an hourly task."""
    return PulseMiddleware(site, tasks={action: Task(action=f"/{action}", interval="1h")})


@pytest.mark.parametrize("action", ACTIONS)
def test_transaction_of_a_test_survives_the_runs(site: WSGIApplication, action: str) -> None:
    """`django.test.TestCase` rolls its transaction back at its end; a closed one is lost before."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE notes (text TEXT)")
        cursor.execute("INSERT INTO notes VALUES ('of the test')")
        with travel(hourly(site, action)) as clock:
            clock.forward("2h")
        cursor.execute("SELECT text FROM notes")
        assert cursor.fetchall() == [("of the test",)]
        transaction.set_rollback(True)
    assert [run.outcome for run in clock.runs()] == [ACTIONS[action]] * 2


def receivers() -> list[bool]:
    """Return whether Django closes old connections at the start and the end of a request."""
    found = []
    for signal in (request_started, request_finished):
        found.append(signal.disconnect(close_old_connections))
        if found[-1]:
            signal.connect(close_old_connections)
    return found


def test_receivers_of_django_are_connected_again(site: WSGIApplication) -> None:
    """Also after a run that failed."""
    with travel(hourly(site, "broken")) as clock:
        clock.forward("1h")
    assert receivers() == [True, True]


def test_receivers_that_were_not_connected_stay_so(site: WSGIApplication) -> None:
    """The test has disconnected them itself."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    with travel(hourly(site, "count")) as clock:
        clock.forward("1h")
    found = receivers()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    assert found == [False, False]


PROGRAM = """
import sys
from django.conf import settings

host, port, user = sys.argv[1:]
settings.configure(
    ALLOWED_HOSTS=["localhost"],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "postgres",
        "HOST": host, "PORT": port, "USER": user, "TEST": {"NAME": "test_pulse_travel"},
    }},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    ROOT_URLCONF=__name__,
)
import django
django.setup()

from django.contrib.auth.models import Group
from django.core.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import TestCase
from django.test.runner import DiscoverRunner
from django.urls import path
from pulse import PulseMiddleware, Task
from pulse.testing import travel


def count(request):
    return HttpResponse(str(Group.objects.count()))


urlpatterns = [path("count", count)]


class Travelling(TestCase):
    def test_rows_of_the_test_are_seen_and_kept(self):
        Group.objects.create(name="of the test")
        app = PulseMiddleware(WSGIHandler(), tasks={"count": Task(action="/count", interval="1h")})
        with travel(app) as clock:
            clock.forward("2h")
        self.assertEqual([run.message for run in clock.runs()], ["1", "1"])
        self.assertEqual(Group.objects.count(), 1)


runner = DiscoverRunner(verbosity=0, interactive=False)
old = runner.setup_databases()
try:
    suite = runner.test_loader.loadTestsFromTestCase(Travelling)
    result = runner.run_suite(suite)
finally:
    runner.teardown_databases(old)
sys.exit(not result.wasSuccessful())
"""


@pytest.mark.server
def test_transaction_of_a_test_case_survives_the_runs_on_postgresql(
    postgres_cluster: PostgresCluster, tmp_path: Path
) -> None:
    """The test that `manage.py test` runs: the views see its rows, and it keeps them."""
    program = tmp_path / "site_test.py"
    program.write_text(PROGRAM)
    words = ["127.0.0.1", str(postgres_cluster.port), postgres_cluster.user]
    done = subprocess.run(
        [sys.executable, str(program), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    require("Ran 1 test" in done.stderr, f"a test that ran, got {done.stderr}")
    assert done.returncode == 0, done.stderr
