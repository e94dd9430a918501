"""What a table loses at a narrow terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulse.cli.answers import Listing, fitted

CELLS = st.text(max_size=60)


@given(
    heads=st.lists(
        st.sampled_from(["task", "state", "by", "late", "run"]), min_size=1, unique=True
    ),
    data=st.data(),
    width=st.integers(60, 200),
)
def test_table_fits_and_keeps_its_rows(heads: list[str], data: st.DataObject, width: int) -> None:
    """The heads keep their order, and each line fits."""
    row = st.lists(CELLS.filter(bool), min_size=len(heads), max_size=len(heads))
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    found = fitted(Listing(heads, rows, ("by", "late")), width)
    assert len(found.rows) == len(rows)
    assert list(found.heads) == [head for head in heads if head in found.heads]
    for line in (found.heads, *found.rows):
        assert sum(map(len, line)) + 3 * (len(line) - 1) <= width


def test_free_text_is_cut_before_a_column_goes() -> None:
    """A column goes only if too little of the text would be left."""
    listing = Listing(("task", "by", "message"), [("work", "web1:7", "x" * 60)], ("by",))
    assert fitted(listing, 80) == Listing(["task", "by", "message"], [["work", "web1:7", "x" * 60]])
    assert fitted(listing, 40).rows == [["work", "web1:7", "x" * 23 + "…"]]
    assert fitted(listing, 24).rows == [["work", "x" * 16 + "…"]]
