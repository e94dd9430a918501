"""Variants of long tests: the gate runs some of them, and `make test-long` the others."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.mark import ParameterSet


def long_variant(*values: object) -> ParameterSet:
    """Return the parameters of a variant that the gate leaves out."""
    return pytest.param(*values, marks=pytest.mark.long)


def combinations(first: Sequence[str], *others: Sequence[str]) -> list[ParameterSet]:
    """Return all combinations; in the gate, each one of the others meets one of the first.

    Which one it meets changes from combination to combination, as in a Latin square.
    """
    found = []
    for numbers in product(*(range(len(choice)) for choice in (first, *others))):
        values = [choice[n] for choice, n in zip((first, *others), numbers, strict=True)]
        is_long = sum(numbers) % len(first) != 0
        found.append(long_variant(*values) if is_long else pytest.param(*values))
    return found
