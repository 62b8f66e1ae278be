"""The columns of a run with their journals: what is to be generated, and into which folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmark.console.plain_text import one_line
from benchmark.measure.machine import Machine
from benchmark.run.column_folder import DamagedFolder
from benchmark.run.columns import Column
from benchmark.run.folders import HELD_OUT, place_columns
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import MAIN_WRITER
from benchmark.settings.fingerprint import defaults_of, fingerprint_of
from benchmark.settings.runtime import runtime_of
from models.base import DType, ImageGenerator


@dataclass(frozen=True)
class Job:
    """A column, the journal of its folder, and how its model is loaded; nothing is loaded before `load` is called.

    load_eager: gives the same model in eager mode. Both can be sent to another process. dtype: what they load it in.
    """

    column: Column
    journal: Journal
    load: Callable[[], ImageGenerator]
    load_eager: Callable[[], ImageGenerator]
    dtype: DType

    @property
    def title(self) -> str:
        return self.column.title


def open_jobs(
    columns: Sequence[Column],
    machine: Machine,
    identity: str,
    label_names: tuple[str, ...] = (),
    held_out: str = "",
    failures: dict[str, str] | None = None,
    writer: str = MAIN_WRITER,
    others: Sequence[str] = (),
) -> list[Job]:
    """Return the columns with the journals of their folders, in the same order.

    identity, label_names: of the prompts. held_out: the digest of what is left out of them, "" where nothing is.
    failures: takes, by title, why a column has no usable folder; such a column is left out and costs no other. writer:
    whose journals these are, where several processes write into the folders; others: who writes into them, too.

    Raises:
        FingerprintError: a folder holds images of other settings; nothing was generated yet.
    """
    jobs = []
    folders = place_columns(columns[0].settings.output_dir, columns, bool(held_out)) if columns else []
    for column, folder in zip(columns, folders, strict=True):
        settings, model = column.settings, column.model
        resolved = {
            "device": machine.name, "dtype": column.key.axes.get("DTYPE", machine.dtype),
            "torch": machine.versions["torch"], "dataset_identity": identity, **column.resolved,
        }  # fmt: skip
        if held_out:
            resolved[HELD_OUT] = held_out
        try:
            journal = Journal(
                folder, fingerprint_of(settings, model, resolved), settings.num_samples,
                defaults=defaults_of(settings, model), writer=writer, others=others,
            )  # fmt: skip
        except DamagedFolder as error:
            if failures is None:
                raise
            failures[column.title] = one_line(error)
            continue
        runtime = runtime_of(settings, column.mode, machine, label_names)
        load = partial(model.family.load, model.options, runtime)
        # One object in eager mode: bulk then goes on with the model that its batch size was found with.
        eager = replace(runtime, mode="eager")
        load_eager = load if eager == runtime else partial(model.family.load, model.options, eager)
        jobs.append(Job(column, journal, load, load_eager, runtime.dtype))
    return jobs
