"""Which columns a measuring script measures, on the captions of the robots: its flags, and what they stand for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast

from benchmark.data.sources.robots import Robots
from benchmark.measure.machine import Machine, choose_machine
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.settings.command_line import parse_command
from benchmark.settings.fields import ASSETS
from benchmark.settings.runtime import runtime_of
from models.base import DType, ImageGenerator

SEED = 42


def add_column_flags(parser: argparse.ArgumentParser, mode: str = "eager", weights: str = "tiny") -> None:
    """Add --models, --mode, --weights and --dtype; mode and weights: the defaults."""
    parser.add_argument(
        "--models", default="sdxl,var,pixart,infinity", help="names as in MODELS, with commas [%(default)s]"
    )
    parser.add_argument("--mode", default=mode, help="eager, compiled, or both with a comma [%(default)s]")
    parser.add_argument("--weights", default=weights, choices=("tiny", "random", "pretrained"), help="[%(default)s]")
    parser.add_argument("--dtype", default="auto", help="as DTYPE [%(default)s]")


def choose_columns(arguments: argparse.Namespace) -> Iterator[tuple[Column, Machine]]:
    """Yield each column with its machine, in the column's dtype; all other settings are those of the environment.

    arguments: of `add_column_flags`, and the --device of the harness.

    Raises:
        ValueError: a flag or a variable is none of those that there are.
    """
    given = [
        "--models", arguments.models, "--mode", arguments.mode, "--weights", arguments.weights, "--dataset", "robots",
        "--device", arguments.device, "--dtype", arguments.dtype,
    ]  # fmt: skip
    settings = parse_command(given, os.environ).settings
    machine = choose_machine(settings.device, settings.dtype)
    for column in plan_columns(settings, choose_models(settings, "Robots", print), machine):
        yield column, replace(machine, dtype=cast(DType, column.dtype))


def loader_of(column: Column, machine: Machine) -> Callable[[], ImageGenerator]:
    """Return what loads the column's model; it can be sent to a worker."""
    labels = Robots(ASSETS, SEED).label_names
    runtime = runtime_of(column.settings, column.mode, machine, labels)
    return partial(column.model.family.load, column.model.options, runtime)
