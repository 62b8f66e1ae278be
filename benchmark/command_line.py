"""From the shell to settings: flags made from the settings' own fields, and one clear line for what does not parse."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from benchmark.settings import Settings, settings_class

DESCRIPTION = (
    "Benchmarks text-to-image models on your own images and GPU. Every setting is an environment variable "
    "(NUM_SAMPLES=100) and a flag of the same name (--num-samples 100); the flag wins."
)
ALIKE = 0.85


class SettingsError(ValueError):
    """What the user asked for cannot be run as asked; the text is the one line that is shown."""


@dataclass(frozen=True)
class Command:
    """What was typed: the settings, and whether only to say what would run."""

    settings: Settings
    check: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; --help lists every setting")


def build_parser(fields: type[Settings]) -> argparse.ArgumentParser:
    """Return the parser for the flags, one for each field of `fields`, with its help."""
    parser = _Parser(prog="run_inference.py", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="say what would run, load nothing, and stop")
    for name, field in fields.model_fields.items():
        default = "" if field.default in (None, "", (), PydanticUndefined) else f" [{_shown(field.default)}]"
        parser.add_argument(
            "--" + name.replace("_", "-"), dest=name.upper(), metavar=name.upper(), default=argparse.SUPPRESS,
            help=f"{field.description}{default}".replace("%", "%%"),
        )  # fmt: skip
    return parser


def parse_command(arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
    """Return the settings that `arguments` and the process's environment ask for.

    `environment` is searched for names that are almost ours; pydantic-settings reads the values themselves.
    Raises SettingsError with one line: the variable, the value, what was expected.
    """
    fields = settings_class()
    given = vars(build_parser(fields).parse_args(arguments))
    check = given.pop("check")
    known = {name.upper() for name in fields.model_fields}
    check_near_misses(environment, known)
    try:
        return Command(fields(**given), check)
    except ValidationError as error:
        raise SettingsError(_describe(error, fields)) from None


def check_near_misses(environment: Mapping[str, str], known: set[str]) -> None:
    """Raise SettingsError where a variable is almost one of ours: SKIP_SDLX would silently run SDXL.

    Only names with an underscore are looked at: NODE is nobody's slip for MODE.
    """
    for name in sorted(environment):
        if name in known or "_" not in name or not name.isupper():
            continue
        similar = difflib.get_close_matches(name, known, n=1, cutoff=ALIKE)
        if similar:
            raise SettingsError(f"{name}={environment[name]}: no such setting; {similar[0]} was probably meant")


def _describe(error: ValidationError, fields: type[Settings]) -> str:
    """Return the first problem of `error` as one line: variable, value, expectation."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0])
    field = fields.model_fields.get(name.lower())
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{name}={_shown(first['input'])}: {message[0].lower()}{message[1:]}{meaning}"


def _shown(value: object) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:d}"
        if isinstance(value, bool)
        else str(value)
    )
