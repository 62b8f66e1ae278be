"""Benchmarks text-to-image models: parses the settings, runs, prints.

    NUM_SAMPLES=10000 SKIP_SDXL=1 RUN_PIXART=1 python run_inference.py

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

NAME = "run_inference.py"
OK, FAILED, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the environment and `arguments` ask for; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return exit_status_of(lambda: _run(given), NAME, "stopped; the same command goes on from the last whole batch")


def _run(arguments: Sequence[str]) -> int:
    from benchmark.settings.command_line import NoColumnLeft, parse_command
    from files.hub import network

    try:
        command = parse_command(arguments, os.environ)
        # What libraries print meanwhile is no part of the table.
        with contextlib.redirect_stdout(sys.stderr), network(command.settings.offline):
            if command.check:  # imports no torch
                from benchmark.run.check import describe_run

                text, is_whole = describe_run(command.settings)
                status, remedy = OK if is_whole else FAILED, ""
            elif command.download:
                from benchmark.run.download import download_run

                text, is_whole = download_run(command.settings)
                status, remedy = OK if is_whole else FAILED, ""
            else:
                from benchmark.report.table import format_report
                from benchmark.run.phases import run_benchmark

                run = run_benchmark(command.settings)
                status = run.stop_status or (FAILED if run.failures or not run.models else OK)
                text = format_report(run)
                is_kept = bool(run.models) and "results.json" not in run.failures
                remedy = f"; {command.settings.output_dir / 'results.json'} has its figures" if is_kept else ""
    except (ValueError, OSError) as error:
        print(f"{NAME}: {one_line(error)}", file=sys.stderr)
        return FAILED if isinstance(error, NoColumnLeft) else UNUSABLE
    if reason := print_whole(text):
        print(f"{NAME}: the text cannot be printed on stdout ({reason}){remedy}", file=sys.stderr)
    return status


if __name__ == "__main__":
    leave(main())
