"""The list of layers in the documentation is that of the import contract."""

from __future__ import annotations

from tests.support.docs_extensions import load_extension

PAGE = load_extension("layers")


def test_every_module_of_the_contract_has_a_sentence() -> None:
    """No module is listed without one, and none has one that is not in the contract."""
    names = [name for layer in PAGE.layers() for name in layer]
    assert sorted(names) == sorted(PAGE.SENTENCES)


def test_the_list_has_a_line_for_each_layer() -> None:
    """The highest layer comes first."""
    lines = PAGE.listing().splitlines()
    assert (len(lines), lines[0]) == (len(PAGE.layers()), "1. `__main__`: `python -m pulse`.")
