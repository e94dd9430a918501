"""Makes tests independent of how fast the machine is, and starts the servers that they share."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.brokers import RabbitMQ, RedisBroker
    from tests.support.postgres import PostgresCluster

# The contract of stores is no test module by its name, but its assertions explain themselves too.
pytest.register_assert_rewrite("tests.contracts.suite")

# A shell that starts a suite in the background lets it ignore Ctrl-C, and every server in it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What takes long on a busy machine is no failure: speed is what the benchmarks are about.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """Return a PostgreSQL server of this test process, started when first asked for."""
    from tests.support.postgres import PostgresCluster

    cluster = PostgresCluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def session_rabbitmq() -> Iterator[RabbitMQ]:
    """Return a RabbitMQ of this test process, which a test may have stopped."""
    from tests.support.brokers import RabbitMQ

    with RabbitMQ() as broker:
        yield broker


@pytest.fixture(scope="session")
def session_redis_broker() -> Iterator[RedisBroker]:
    """Return a Redis of this test process for use as a broker, which a test may have stopped."""
    from tests.support.brokers import RedisBroker

    with RedisBroker() as broker:
        yield broker


@pytest.fixture
def rabbitmq(session_rabbitmq: RabbitMQ) -> RabbitMQ:
    """Return the RabbitMQ that the tests share; it accepts connections."""
    session_rabbitmq.start()
    return session_rabbitmq


@pytest.fixture
def redis_broker(session_redis_broker: RedisBroker) -> RedisBroker:
    """Return the Redis that the tests share as a broker; it accepts connections."""
    session_redis_broker.start()
    return session_redis_broker


@pytest.fixture
def rabbitmq_vhost(rabbitmq: RabbitMQ) -> str:
    """Return the URL of a vhost of RabbitMQ that only this test uses."""
    return rabbitmq.vhost()


@pytest.fixture
def redis_vhost(redis_broker: RedisBroker) -> str:
    """Return the URL of a database of Redis that only this test uses as a broker."""
    return redis_broker.vhost()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests of known faults failed as expected, by the issue that mends them."""
    reports = terminalreporter.stats.get("xfailed", [])
    terminalreporter.write_line(known_faults([report.wasxfail for report in reports]))


def known_faults(reasons: Iterable[str]) -> str:
    """Return the line that counts expected failures by their reasons, such as `issue 10`."""
    counts = sorted(Counter(reasons).items(), key=_by_number)
    return (
        f"known faults: {', '.join(f'{count} of {reason}' for reason, count in counts) or 'none'}"
    )


def _by_number(item: tuple[str, int]) -> tuple[int, str]:
    reason, _ = item
    number = reason.rpartition(" ")[2]
    return int(number) if number.isdecimal() else 0, reason
