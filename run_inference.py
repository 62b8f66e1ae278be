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

NAME = "run_inference.py"
STOPPED = "stopped; the same command goes on from the last whole batch"
OK, FAILED, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the environment and `arguments` ask for; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    is_told = os.environ.get("RANK", "0") == "0"  # of several processes, one says it
    return exit_status_of(lambda: _run(given), NAME, STOPPED if is_told else "")


def _run(arguments: Sequence[str]) -> int:
    from benchmark.ranks.launch import read_launch, take_gpu
    from benchmark.ranks.ranks import open_ranks
    from benchmark.settings.command_line import NoColumnLeft, parse_command
    from files.hub import network

    is_told, text, remedy = True, "", ""
    try:
        launch = read_launch()
        is_told = launch.local_rank == 0
        command = parse_command(arguments, os.environ)
        device = take_gpu(launch, command.settings.device)
        # What libraries print meanwhile is no part of the table.
        with contextlib.redirect_stdout(sys.stderr), network(command.settings.offline):
            if (command.check and launch.rank) or (command.download and launch.local_rank):
                return OK  # the first process of all, or of its host, does it
            if command.check:  # imports no torch
                from benchmark.run.check import describe_run

                text, is_whole = describe_run(command.settings)
                status = OK if is_whole else FAILED
            elif command.download:
                from benchmark.run.download import download_run

                text, is_whole = download_run(command.settings)
                status = OK if is_whole else FAILED
            else:
                from benchmark.report.table import format_report
                from benchmark.run.phases import run_benchmark, run_beside

                settings = command.settings.model_copy(update={"device": device})
                with open_ranks(launch, NAME) as ranks:
                    is_told = ranks.is_first
                    if not ranks.is_first:
                        return run_beside(settings, ranks)
                    run = run_benchmark(settings, ranks)
                    ranks.finish()
                status = run.stop_status or (FAILED if run.failures or not run.models else OK)
                text = format_report(run)
                is_kept = bool(run.models) and "results.json" not in run.failures
                remedy = f"; {command.settings.output_dir / 'results.json'} has its figures" if is_kept else ""
    except (ValueError, OSError) as error:
        if is_told:
            print(f"{NAME}: {one_line(error)}", file=sys.stderr)
        return FAILED if isinstance(error, NoColumnLeft) else UNUSABLE
    if reason := print_whole(text):
        print(f"{NAME}: the text cannot be printed on stdout ({reason}){remedy}", file=sys.stderr)
    return status


if __name__ == "__main__":
    leave(main())
