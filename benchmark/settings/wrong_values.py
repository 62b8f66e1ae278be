"""What is wrong with a value of a setting, as half a line."""

from __future__ import annotations

from pydantic_core import ErrorDetails


def describe_wrong(error: ErrorDetails) -> str:
    """Return what pydantic found wrong, without the value: "input should be greater than or equal to 1"."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        message = "not of the expected form"
    return f"{message[0].lower()}{message[1:]}"
