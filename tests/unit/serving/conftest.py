"""Fixtures that the tests of `pulse.serving` share."""

import pytest

from tests.support.recording_lifecycle import RecordingLifecycle


@pytest.fixture
def lifecycle() -> RecordingLifecycle:
    """Return a fake lifecycle that records each call."""
    return RecordingLifecycle()
