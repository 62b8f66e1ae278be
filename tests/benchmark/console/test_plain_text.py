"""Text from elsewhere acts on nothing: what cannot be seen is escaped, all else stays."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from benchmark.console.plain_text import one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\rc\td\0e\x7ff\x85g", r"a\nb\rc\td\x00e\x7ff\x85g"),
        ("\x9b2J", r"\x9b2J"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("exe.\u202egpj", r"exe.\u202egpj"),
        ("\u061c\u200e\u200f\u202a\u202b\u202c\u202d", r"\u061c\u200e\u200f\u202a\u202b\u202c\u202d"),
        ("\u2066\u2067\u2068\u2069", r"\u2066\u2067\u2068\u2069"),
        ("a\u200bb\u200cc\u200dd\u2060e\ufefff\xad", r"a\u200bb\u200cc\u200dd\u2060e\ufefff\xad"),
        ("\udc80 \ud800", r"\udc80 \ud800"),
        ("\U000e0041\U000e007f", r"\U000e0041\U000e007f"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "VAR-d16 (compiled)",
        "Fréchet, naïve",
        "名前 и имя",
        "שלום مرحبا",
        "e\u0301 \u0600 \u06dd",
        "🤖 ❤\ufe0f",
        "a\xa0b\u3000c",
        r"C:\n",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_no_character_of_unicode_gets_through_unseen_but_marks_that_are_seen() -> None:
    through = {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and visible(character) == character
    }
    scripts = {unicodedata.name(character).split()[0] for character in through}
    assert scripts == {"ARABIC", "SYRIAC", "KAITHI"}
    assert "\u061c" not in through, "the Arabic letter mark turns the direction and is not seen"


def test_an_error_is_one_line_and_never_empty() -> None:
    assert one_line(ValueError("first\n  second\x1b[2J\u2028third")) == r"first second\x1b[2J third"
    assert one_line(ValueError()) == "ValueError"
    assert one_line("a\r\nb") == "a b"
