"""The canonical form of request paths."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.guard.canonical_path import MOST_DOTS, PASSES, Reading, read, resolve, stem, stems

WIRE = st.text(st.characters(max_codepoint=255), max_size=40)
CROOKED = st.text(
    st.sampled_from("/.;?#%\\25fFcC3 aAi\xc4\xb1\xb0\xef\xbc\x8f\xa5\xff\n\0"), max_size=30
)


def wire(text: str) -> str:
    """Return *text* as PEP 3333 has it."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/sessions/cleanup", ["sessions", "cleanup"]),
        ("//a///b/", ["a", "b"]),
        ("a/./b/.", ["a", "b"]),
        ("/A/\xc5\xbf", ["a", "s"]),
        (wire("/\u0130\u0131\u212a"), ["iik"]),
        (wire("/straße"), ["strasse"]),
        ("/a\xff/b\n", ["a", "b"]),
        ("/a b/\0c\x7f", ["ab", "c"]),
        (wire("/a\u200b\u00ad\u3000b"), ["ab"]),
        ("/a;x=1;y/b;z", ["a", "b"]),
        ("/a;/;b", ["a"]),
        ("/a?b#c", ["a"]),
        ("/a\\b", ["a", "b"]),
        (wire("/a\uff0fb"), ["a", "b"]),
        ("/a%2Fb", ["a", "b"]),
        ("/a%252525252Fb", ["a", "b"]),
        (wire("/a\uff05\uff12\uff26b"), ["a", "b"]),
        ("/%C5%BF", ["s"]),
        ("/100%", ["100%"]),
        ("", []),
    ],
)
def test_every_spelling_of_a_path_comes_to_the_same_segments(
    path: str, segments: list[str]
) -> None:
    """Decorations of a path leave nothing behind in its canonical form."""
    reading = read(path)
    assert reading is not None
    assert reading.segments == segments


@pytest.mark.parametrize(
    "path",
    ["/a/../b", "/a\\b", "/a%2Fb", wire("/a\uff0fb"), "/a?b", "/a#b", wire("/\u2025/b"), "/a%2Eb"],
)
def test_a_path_whose_decoding_depends_on_the_order_is_loose(path: str) -> None:
    """Dot segments, cuts and hidden separators let a router see fewer segments."""
    reading = read(path)
    assert reading is not None
    assert reading.loose


@pytest.mark.parametrize("path", ["/a/b", "//a/./b", "/a;x/b", "/a b", wire("/é"), "/a%41"])
def test_a_path_that_decodes_in_one_way_is_not_loose(path: str) -> None:
    """Where the order does not matter the segments are exactly what a router may see."""
    reading = read(path)
    assert reading is not None
    assert not reading.loose


def test_a_path_encoded_over_and_over_has_no_reading() -> None:
    """A path that more rounds than are allowed still change is nobody's link."""
    assert read("/%" + "25" * (PASSES + 1) + "41") is None


def test_decoded_text_in_path_info_is_read_as_it_is() -> None:
    """Bottle leaves decoded text in the environ; a middleware below it may ask about that."""
    assert read("/Łódź") == Reading(["łódź"], loose=False)


@pytest.mark.parametrize(
    ("path", "segments"),
    [("/a/../b", ["b"]), ("/../a", ["a"]), ("/a/b/../..", []), ("/a/b", ["a", "b"])],
)
def test_resolving_takes_a_segment_away_for_each_pair_of_dots(
    path: str, segments: list[str]
) -> None:
    """A `..` removes the segment before it and never climbs above the root."""
    reading = read(path)
    assert reading is not None
    assert resolve(reading) == segments


@pytest.mark.parametrize(
    ("segment", "expected"),
    [("a.json", "a"), ("a.tar.gz", "a.tar"), ("a", "a"), ("a.", "a"), (".well", ".well")],
)
def test_a_stem_lacks_the_last_extension_alone(segment: str, expected: str) -> None:
    """Only what follows the last dot goes, and a name never becomes empty."""
    assert stem(segment) == expected


def test_all_stems_lack_one_extension_each() -> None:
    """Whatever a hidden dot makes of the extension, what stands before it is among them."""
    assert stems("a.b.c") == {"a.b.c", "a.b", "a"}


def test_a_row_of_dots_has_a_bounded_number_of_stems() -> None:
    """A path of thousands of dots costs no more than another."""
    assert len(stems("." * 1_000)) <= MOST_DOTS + 1


@given(st.one_of(WIRE, CROOKED))
def test_the_canonical_form_is_its_own_canonical_form(path: str) -> None:
    """Reading what was read already changes nothing."""
    reading = read(path)
    if reading is not None:
        again = read(wire("/" + "/".join(reading.segments)))
        assert again is not None
        assert again.segments == reading.segments


@given(st.text("abZ0/._~-", max_size=30))
def test_the_short_cut_for_plain_paths_agrees_with_the_long_way(path: str) -> None:
    """A plain path reads the same when a blank at its end forces the full decoding."""
    assert read(path) == read(path + " ")


def test_letters_that_a_case_insensitive_route_takes_for_ascii_are_folded() -> None:
    """Whatever `re.IGNORECASE` matches with an ASCII letter has that letter's canonical form."""
    every = "".join(map(chr, [*range(0x80, 0xD800), *range(0xE000, sys.maxunicode + 1)]))
    for letter in "abcdefghijklmnopqrstuvwxyz":
        for alike in re.findall(letter, every, re.IGNORECASE):
            assert read(wire(alike)) == Reading([letter], loose=False)
