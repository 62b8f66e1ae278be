"""What a file or folder from a stranger may bring, and how it is to be refused."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

MARK = "ran"
CODE = f"open({MARK!r}, 'w').close()\nclass Evil: pass\n"


class Payload:
    """What a pickle of this would do when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (MARK,))


def refusal(call: Callable[[], object], kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text
