"""Benchmarks text-to-image models: parses the settings, runs, prints.

    NUM_SAMPLES=10000 SKIP_SDXL=1 RUN_PIXART=1 python run_inference.py

stdout carries the table, the winners and the footer; progress and warnings go to stderr.
Exit status: 0 all went well, 1 a model failed, 2 the settings cannot be run, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from benchmark.command_line import SettingsError, parse_command
from benchmark.plain_text import one_line

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the environment and `arguments` ask for; return the exit status."""
    try:
        command = parse_command(sys.argv[1:] if arguments is None else arguments, os.environ)
        if command.check:
            from benchmark.check import describe_run

            print(describe_run(command.settings))
            return OK
        # Imported here, since what follows imports torch and --help answers without it.
        from benchmark.run import run_benchmark
        from benchmark.table import format_report

        with contextlib.redirect_stdout(sys.stderr):  # what libraries print meanwhile is no part of the table
            run = run_benchmark(command.settings)
        print(format_report(run))
    except (SettingsError, ValueError, OSError) as error:
        print(f"run_inference.py: {one_line(error)}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("run_inference.py: stopped; the same command goes on from the last whole batch", file=sys.stderr)
        return INTERRUPTED
    return INTERRUPTED if run.interrupted else FAILED if run.failures else OK


if __name__ == "__main__":
    sys.exit(main())
