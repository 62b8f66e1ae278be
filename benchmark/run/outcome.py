"""What a command comes to: a run, what --check says of one, or what --download has fetched, in one process of several.

Of several processes the first one speaks; the others work for it in silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.ranks.launch import Launch
from benchmark.ranks.ranks import open_ranks
from benchmark.settings.command_line import Command, NoColumnLeft
from benchmark.settings.fields import Settings

OK, FAILED, UNUSABLE = 0, 1, 2


@dataclass(frozen=True)
class Outcome:
    """The exit status and the text for stdout, "" for none. kept: where else the text's figures are."""

    status: int
    text: str = ""
    kept: str = ""


def carry_out(command: Command, launch: Launch, program: str) -> Outcome:
    """Do what was typed. program: what lines on ranks that are lost begin with.

    Raises:
        OSError, ValueError: it cannot be done; one line.
    """
    if command.check and launch.rank == 0:  # imports no torch
        from benchmark.run.check import describe_run

        text, is_whole = describe_run(command.settings, launch)
        return Outcome(OK if is_whole else FAILED, text)
    if command.download and launch.local_rank == 0:
        from benchmark.run.download import download_run

        text, is_whole = download_run(command.settings)
        return Outcome(OK if is_whole else FAILED, text if launch.rank == 0 else "")
    if command.check or command.download:
        return Outcome(OK)
    return _run(command.settings, launch, program)


def status_of_error(error: Exception) -> int:
    """Return the exit status for an error of `carry_out`."""
    return FAILED if isinstance(error, NoColumnLeft) else UNUSABLE


def _run(settings: Settings, launch: Launch, program: str) -> Outcome:
    from benchmark.report.table import format_report
    from benchmark.run.phases import run_benchmark, run_beside

    try:
        with open_ranks(launch, program) as ranks:
            if not ranks.is_first:
                return Outcome(run_beside(settings, ranks))
            run = run_benchmark(settings, ranks)
            ranks.finish()
    except (ValueError, OSError) as error:
        if launch.rank == 0:
            raise
        return Outcome(status_of_error(error))  # rank 0 says why
    status = run.stop_status or (FAILED if run.failures or not run.models else OK)
    is_kept = bool(run.models) and "results.json" not in run.failures
    return Outcome(status, format_report(run), str(settings.output_dir / "results.json") if is_kept else "")
