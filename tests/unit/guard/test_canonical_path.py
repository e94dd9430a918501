"""The canonical form of request paths."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.guard.canonical_path import (
    MAX_DOTS,
    PASSES,
    CanonicalPath,
    canonical_form,
    resolve_dot_segments,
    without_extension,
    without_extensions,
)

WIRE = st.text(st.characters(max_codepoint=255), max_size=40)
UNUSUAL = st.text(
    st.sampled_from("/.;?#%\\25fFcC3 aAi\xc4\xb1\xb0\xef\xbc\x8f\xa5\xff\n\0"), max_size=30
)


def wire(text: str) -> str:
    """Return *text* in the encoding of PEP 3333."""
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
def test_equivalent_paths_have_the_same_segments(path: str, segments: list[str]) -> None:
    """The canonical form removes all decorations of a path."""
    canonical = canonical_form(path)
    assert canonical is not None
    assert canonical.segments == segments


@pytest.mark.parametrize(
    "path",
    ["/a/../b", "/a\\b", "/a%2Fb", wire("/a\uff0fb"), "/a?b", "/a#b", wire("/\u2025/b"), "/a%2Eb"],
)
def test_path_that_depends_on_the_order_of_decoding_is_ambiguous(path: str) -> None:
    """With dot segments, cuts or hidden separators, a router may see fewer segments."""
    canonical = canonical_form(path)
    assert canonical is not None
    assert canonical.ambiguous


@pytest.mark.parametrize("path", ["/a/b", "//a/./b", "/a;x/b", "/a b", wire("/é"), "/a%41"])
def test_path_with_a_single_decoding_is_not_ambiguous(path: str) -> None:
    """The segments are exactly those that a router may see."""
    canonical = canonical_form(path)
    assert canonical is not None
    assert not canonical.ambiguous


def test_path_with_too_many_encodings_has_no_canonical_form() -> None:
    """Only an attack needs so many decoding rounds."""
    assert canonical_form("/%" + "25" * (PASSES + 1) + "41") is None


def test_decoded_text_in_path_info_is_accepted() -> None:
    """Bottle stores decoded text in the environ, which other middleware may pass to the guard."""
    assert canonical_form("/Łódź") == CanonicalPath(["łódź"], ambiguous=False)


@pytest.mark.parametrize(
    ("path", "segments"),
    [("/a/../b", ["b"]), ("/../a", ["a"]), ("/a/b/../..", []), ("/a/b", ["a", "b"])],
)
def test_resolve_removes_the_segment_before_each_double_dot(path: str, segments: list[str]) -> None:
    """`..` never leads above the root."""
    canonical = canonical_form(path)
    assert canonical is not None
    assert resolve_dot_segments(canonical.segments) == segments


@pytest.mark.parametrize(
    ("segment", "expected"),
    [("a.json", "a"), ("a.tar.gz", "a.tar"), ("a", "a"), ("a.", "a"), (".well", ".well")],
)
def test_stem_removes_only_the_last_extension(segment: str, expected: str) -> None:
    """The result is never empty."""
    assert without_extension(segment) == expected


def test_stems_contains_the_prefix_before_each_dot() -> None:
    """A hidden dot may begin the extension."""
    assert without_extensions("a.b.c") == {"a.b.c", "a.b", "a"}


def test_number_of_stems_is_bounded() -> None:
    """A path with thousands of dots has no higher cost."""
    assert len(without_extensions("." * 1_000)) <= MAX_DOTS + 1


@given(st.one_of(WIRE, UNUSUAL))
def test_canonical_form_is_idempotent(path: str) -> None:
    """The canonical form of a canonical path is the same path."""
    canonical = canonical_form(path)
    if canonical is not None:
        again = canonical_form(wire("/" + "/".join(canonical.segments)))
        assert again is not None
        assert again.segments == canonical.segments


@given(st.text("abZ0/._~-", max_size=30))
def test_fast_path_for_plain_paths_equals_the_full_decoding(path: str) -> None:
    """A blank at the end of the path forces the full decoding."""
    assert canonical_form(path) == canonical_form(path + " ")


def test_letters_that_match_ascii_without_case_are_folded() -> None:
    """A letter that `re.IGNORECASE` matches with an ASCII letter becomes this ASCII letter."""
    every = "".join(map(chr, [*range(0x80, 0xD800), *range(0xE000, sys.maxunicode + 1)]))
    for letter in "abcdefghijklmnopqrstuvwxyz":
        for match in re.findall(letter, every, re.IGNORECASE):
            assert canonical_form(wire(match)) == CanonicalPath([letter], ambiguous=False)
