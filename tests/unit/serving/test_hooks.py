"""How members are told, without being kept alive."""

from __future__ import annotations

import pytest
from member import RecordingMember

from pulse.serving.hooks import told, told_if_used


class Doubtful(RecordingMember):
    """A member that what the server calls does not lead to."""

    def may_be_dropped(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize("tell", [told, told_if_used])
def test_a_member_that_is_in_use_is_told(tell: object) -> None:
    """Also where what the server calls does not lead to it."""
    member = Doubtful()

    tell(member, lambda still: still.enter())()

    assert member.told == ["enter"]


@pytest.mark.parametrize("tell", [told, told_if_used])
def test_a_member_that_was_dropped_is_not_told(tell: object) -> None:
    """The hook keeps nobody alive."""
    member = Doubtful()
    reports = member.told
    hook = tell(member, lambda still: still.enter())
    del member

    hook()

    assert reports == []


def test_a_member_that_was_dropped_in_a_cycle_is_not_told() -> None:
    """The garbage collector is called where it has not come by."""
    member = Doubtful()
    reports = member.told
    member.itself = member  # type: ignore[attr-defined]
    hook = told_if_used(member, lambda still: still.enter())
    del member

    hook()

    assert reports == []
