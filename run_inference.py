"""Benchmarks text-to-image models: parses the settings, runs, prints.

    NUM_SAMPLES=10000 SKIP_SDXL=1 RUN_PIXART=1 python run_inference.py
    torchrun --nproc-per-node 4 run_inference.py

stdout carries the table, the winners and the footer; progress and warnings go to stderr.
Exit status: 0 all went well, 1 a model failed (with --check: cannot run) or none has a result, 2 the settings cannot be
run; 130, 143 or 129 where SIGINT (Ctrl-C), SIGTERM or SIGHUP ended the run. The first such signal ends it at the next
batch and prints what there is, a second ends it at once. A stdout or stderr that is closed, full or broken changes no
status.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

# What takes longer to import is imported below, where a signal already ends the program in one line.
from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line
from benchmark.console.streams import print_whole
from benchmark.ranks.launch import is_first
from benchmark.ranks.watch import seconds_to_settle

NAME = "run_inference.py"
STOPPED = "stopped; the same command goes on from the last whole batch"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the environment and `arguments` ask for; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return exit_status_of(lambda: _run(given), NAME, STOPPED if is_first() else "", seconds_to_settle())


def _run(arguments: Sequence[str]) -> int:
    from benchmark.ranks.launch import read_launch, take_gpu
    from benchmark.ranks.ranks import give_up
    from benchmark.ranks.speaking import say_failure
    from benchmark.run.outcome import carry_out, status_of_error
    from benchmark.settings.command_line import parse_command
    from files.hub import network

    launch = None
    try:
        launch = read_launch()
        command = parse_command(arguments, os.environ)
        command = command.on(take_gpu(launch, command.settings.device))
        # What libraries print meanwhile is no part of the table.
        with contextlib.redirect_stdout(sys.stderr), network(command.settings.offline):
            outcome = carry_out(command, launch, NAME)
    except (ValueError, OSError) as error:
        say_failure(f"{NAME}: {one_line(error)}")
        if launch is not None:
            give_up(launch, one_line(error))
        return status_of_error(error)
    if outcome.text and (reason := print_whole(outcome.text)):
        kept = f"; {outcome.kept} has its figures" if outcome.kept else ""
        print(f"{NAME}: the text cannot be printed on stdout ({reason}){kept}", file=sys.stderr)
    return outcome.status


if __name__ == "__main__":
    leave(main())
