"""Text from elsewhere (names, captions, errors of libraries) as it is shown: nothing in it acts on a terminal."""

from __future__ import annotations

import unicodedata

# Control characters, invisible format characters, lone surrogates, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Of the format characters, these are seen: number signs and marks over the letters that follow.
_SEEN = frozenset(map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)))


def visible(text: str, keep: str = "") -> str:
    r"""Return the text with what cannot be seen as backslash escapes, such as \x1b, \n and \u202e; the rest as it is.

    Escaped are control characters, separators of lines and paragraphs, marks that turn the direction of writing,
    zero-width characters and lone surrogates. keep: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _HIDDEN and character not in keep and character not in _SEEN
        else character
        for character in text
    )


def one_line(error: Exception | str) -> str:
    """Return an error's text on one line, with what cannot be seen as backslash escapes."""
    text = visible(" ".join(str(error).split()))
    return text if text or isinstance(error, str) else type(error).__name__
