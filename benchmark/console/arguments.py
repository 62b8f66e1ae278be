"""Command lines whose errors are one line, as all other errors are."""

from __future__ import annotations

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A parser that raises ValueError, with one line, where argparse would print its usage and end the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)
