"""What the tests of `pulse.serving` share."""

import pytest
from member import RecordingMember


@pytest.fixture
def member() -> RecordingMember:
    """A member that records what it is told."""
    return RecordingMember()
