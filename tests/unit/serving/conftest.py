"""What the tests of `pulse.serving` share."""

import pytest

from tests.support.member import RecordingMember


@pytest.fixture
def member() -> RecordingMember:
    """A member that records what it is told."""
    return RecordingMember()
