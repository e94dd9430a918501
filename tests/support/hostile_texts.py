"""Texts that have harmed the pages and logs of others."""

from __future__ import annotations

CORPUS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "';alert(1)//",
    "</script><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "' OR '1'='1",
    '{"task":"x"}',
    "../../etc/passwd",
    "..%2f..%2f",
    "%00%0d%0aSet-Cookie: a=b",
    "a\u2028b\u2029c",
    "\u202eabc",
    "=cmd|' /C calc'!A0",
    "😀" * 40,
]
"""Cross-site scripts, templates, SQL, paths, header injection, separators, direction, formulas."""

UNPRINTABLE = ["a\r\nX-Injected: 1", "a\x00b", "\x1b[2J", "a\ud800"]
"""Texts that only notes and queries may have; a surrogate is no text at all."""
