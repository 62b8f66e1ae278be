"""Writes docs/pipelines.md from the table that the program decides by, so that the two cannot differ.

python scripts/document_pipelines.py
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.pipelines.refusals import REFUSED
from models.pipelines.table import NATIVE, TEXT_TO_IMAGE, PipelineFacts

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "pipelines.md"
WIDTH = 118
HEADER = """# Pipelines of diffusers

Written by `scripts/document_pipelines.py` from the table that the program decides by (`models/pipelines/table.py`).

`MODELS=hub:org/name`, `hub:./folder` or `hub:./file.safetensors` runs the pipelines below. Each image is the
pipeline's own PIL image, byte for byte. `HUB_GUIDANCE` and `HUB_STEPS` go to the arguments named here. "Alone": each
request has a call of its own, because the pipeline takes no lists, or gives a batch one seed. A class that is not in
this document is judged by its name and the arguments of its call, and asked one request at a time.

A folder of one of the decoders below runs as the combined class, with its prior: that of the published decoders is
known, and another one is named by `HUB_COMPONENTS='{"prior": "org/prior"}'`.
"""
SEVERAL_GPUS = """## A pipeline that does not fit one GPU

    DEVICE_MAP=balanced MODELS=hub:black-forest-labs/FLUX.1-dev python run_inference.py

`DEVICE_MAP=balanced` loads a pipeline by diffusers' own device map (`device_map="balanced"`): each component is whole
on one GPU, the largest on the one with the most free memory, the next on the next one. Hooks of accelerate move what
goes from one component to another. At least two GPUs must be visible; `CUDA_VISIBLE_DEVICES` chooses which.

- **It is for memory, not for speed.** The components of a call run one after another, so the GPUs wait for each other,
  and the hooks cost time at every layer: a pipeline that fits one GPU is better left there.
- **A component is never split.** One that no GPU has room for would be on the CPU. That is refused before any weights
  are read, with the names and sizes of such components, and costs that column alone.
- **In the report** the column is called `FLUX.1-dev (several GPUs)`, and the footer says which component is on which
  GPU. A folder with images of the same pipeline without `DEVICE_MAP` is refused: choose another `OUTPUT_DIR`.
- **Times** end when all of its GPUs have done their work. In the pass that times stages, the host waits at each
  border between two stages.
- **Memory** is the sum of each GPU's peak, and the footer has each of them. Energy and roofline are n/a: they are those
  of one card. Another process on any of these GPUs counts as one that shares the card.
- **Images** are those of one GPU, but for rounding where the GPUs are of different kinds.
- `WEIGHTS=random` draws each component on its GPU, from the configurations alone.
- **Refused with it:** models that are not `hub:` pipelines, in the same run; `OFFLOAD=1`; `MODE=compiled`
  (`torch.compile` stops at accelerate's hooks at every layer); `DEVICE=cpu` and `DEVICE=cuda:N`; the combined classes
  below, whose prior and decoder are pipelines of their own; several processes of `torchrun` or `accelerate launch`,
  each of which has one GPU.
"""
COLUMNS = ("class", "guidance (default)", "steps", "negative prompt", "sides", "notes")


def document() -> str:
    """Return the whole document."""
    rows = [f"| {' | '.join(_row(name, facts))} |" for name, facts in sorted(TEXT_TO_IMAGE.items())]
    table = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS), *rows]
    refused = [
        textwrap.fill(f"- {reason}: {', '.join(sorted(names))}", WIDTH, subsequent_indent="  ", break_long_words=False)
        for reason, names in _by_reason()
    ]
    text = f"## Text to image: {len(rows)} classes run\n\n" + "\n".join(table)
    return (
        f"{HEADER}\n{SEVERAL_GPUS}\n{text}\n\n## Refused before anything is loaded, with the reason\n\n"
        + "\n".join(refused)
        + "\n"
    )


def _row(name: str, facts: PipelineFacts) -> Iterator[str]:
    yield f"`{name}`"
    default = "" if facts.default is None else f" ({facts.default:g})"
    yield _code(facts.guidance) + default if facts.guidance else "none"
    yield _code(facts.steps)
    yield _negative(facts)
    yield _sides(facts)
    yield "; ".join(_notes(facts))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _negative(facts: PipelineFacts) -> str:
    if not facts.negative:
        return "none"
    return f"with `{facts.negative_scale}` > {facts.off:g}" if facts.negative_scale else "yes"


def _sides(facts: PipelineFacts) -> str:
    if facts.side:
        return "its own" if facts.side == NATIVE else f"{facts.side} px"
    return f"multiples of {facts.multiple}" if facts.multiple else ""


def _notes(facts: PipelineFacts) -> Iterator[str]:
    if facts.alone:
        yield "alone"
    if facts.batch_matters:
        yield "images depend on the batch size"
    if facts.safety:
        yield "safety checker off (`HUB_SAFETY`)"
    if not facts.scheduler:
        yield "no other scheduler"
    if facts.plain_negative == " ":
        yield "guided away from a blank where no negative prompt is given"
    if facts.packages:
        yield f"needs {', '.join(facts.packages)}"
    if facts.dtypes:
        yield f"runs in {' and '.join(facts.dtypes)} alone"
    yield from facts.notes


def _by_reason() -> list[tuple[str, list[str]]]:
    reasons = dict.fromkeys(REFUSED.values())
    return [(reason, [name for name, why in REFUSED.items() if why == reason]) for reason in reasons]


if __name__ == "__main__":
    DOCUMENT.write_text(document())
