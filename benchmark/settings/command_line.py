"""From the shell to settings: flags made from the settings' own fields, and one clear line for what does not parse."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

import models
from benchmark.console.plain_text import visible
from benchmark.settings.fields import Settings, settings_class
from benchmark.settings.near_misses import NearMisses
from benchmark.settings.preconditions import check_preconditions
from benchmark.settings.wrong_values import describe_wrong
from files.reading import shown

DESCRIPTION = (
    "Benchmarks text-to-image models on your own images and GPU. Every setting is an environment variable "
    "(NUM_SAMPLES=100) and a flag of the same name (--num-samples 100); the flag wins."
)
ALIKE = 0.75  # a flag that is none is refused in any case: the nearest one is a hint


class SettingsError(ValueError):
    """What the user asked for cannot be run as asked; the text is the one line that is shown."""

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class NoColumnLeft(OSError):
    """No model of the run can be loaded, which was told of each of them."""


@dataclass(frozen=True)
class Command:
    """What was typed: the settings, and whether only to say what would run, or only to download what it needs."""

    settings: Settings
    check: bool
    download: bool = False

    def on(self, device: str) -> Command:
        """Return the command with another DEVICE."""
        return replace(self, settings=self.settings.model_copy(update={"device": device}))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; --help lists every setting")


def build_parser(fields: type[Settings]) -> argparse.ArgumentParser:
    """Return the parser for the flags, one for each field of `fields`, with its help."""
    parser = _Parser(prog="run_inference.py", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="say what would run, load nothing, and stop")
    parser.add_argument(
        "--download", action="store_true", help="fetch all that this run needs, generate nothing, and stop"
    )
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
    near_misses = NearMisses(
        [name.upper() for name in fields.model_fields],
        [family.key.upper() for family in models.FAMILIES],
        [family.key.upper() for family in models.FAMILIES if family.switchable],
    )
    parsed, unknown = build_parser(fields).parse_known_args(arguments)
    if unknown:
        raise SettingsError(_describe_unknown(unknown[0], near_misses, fields))
    given = vars(parsed)
    check, download = given.pop("check"), given.pop("download")
    if check and download:
        raise SettingsError("--check loads nothing, and --download fetches: give one of them")
    for name in sorted(environment):
        if meant := near_misses.meant_by(name):
            raise SettingsError(f"{name}={shown(environment[name])}: no such setting; {meant} was probably meant")
    try:
        settings = fields(**given)
        check_preconditions(settings)
    except ValidationError as error:
        raise SettingsError(_describe(error, fields)) from None
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from None
    if download and settings.offline:
        raise SettingsError("--download fetches, and OFFLINE=1 forbids it: leave one of them out")
    return Command(settings, check, download)


def _describe_unknown(argument: str, near_misses: NearMisses, fields: type[Settings]) -> str:
    """Return what is wrong with an argument that is no flag, and which one was probably meant."""
    name, _, value = argument.lstrip("-").partition("=")
    name = name.replace("-", "_").upper()
    known = {known.upper() for known in fields.model_fields}
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=ALIKE) if argument.startswith("-") else []
    meant = name if name in known else near_misses.meant_by(name) or next(iter(nearest), "")
    if meant not in known:
        return f"unrecognized argument {shown(argument)}; --help lists every setting"
    flag = f"--{meant.lower().replace('_', '-')}"
    if argument.startswith("-") or not value:
        return f"{shown(argument)} is no flag; {flag} was probably meant (--help lists every setting)"
    return f"{shown(argument)}: variables stand before the command; after it, write {flag} {shown(value)}"


def _describe(error: ValidationError, fields: type[Settings]) -> str:
    """Return the first problem of `error` as one line: variable, value, expectation."""
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    name = str(first["loc"][0])
    field = fields.model_fields.get(name.lower())
    meaning = f" ({field.description})" if field is not None and field.description else ""
    return f"{name}={shown(_shown(first['input']))}: {describe_wrong(first)}{meaning}"


def _shown(value: object) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:d}"
        if isinstance(value, bool)
        else str(value)
    )
