"""Text from elsewhere (names, captions, errors of libraries) as it is shown: on one line."""

from __future__ import annotations


def one_line(error: Exception) -> str:
    """Return an error's text without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
