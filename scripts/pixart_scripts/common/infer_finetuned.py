"""Generates with a fine-tuned PixArt from the captions of a prepared data set.

    python scripts/pixart_scripts/common/infer_finetuned.py --base_dir local_repo/WikiArt --use_meta --num_samples 100
    python scripts/pixart_scripts/common/infer_finetuned.py --base_dir local_repo/Gundam --prompt "a white robot"

--use_meta takes the captions of BASE_DIR/input/test (of input/train where nothing is held out); without it the prompts
are --prompt's, or VALIDATION_PROMPT's. Writes BASE_DIR/finetuned/output/00000.png and samples.png, the first beside the
real images; image i has seed + i. A second call makes only what is missing. The base is COMBINED_BASE where it is
there, else as for run_inference.py (PIXART_MODEL, PIXART_BASE, WEIGHTS). Exit status: 0, 2 where it cannot be done.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.settings.command_line import parse_command
from finetuning.base import base_options, find_lora
from scripts.pixart_scripts.common.prepare_inputs import positive_integer


def main(given: Sequence[str] | None = None, *, base_dir: str = "local_repo/Gundam") -> int:
    """Generate; the keyword is the default of BASE_DIR. Return the exit status."""
    parser = argparse.ArgumentParser(description="Generate with a fine-tuned PixArt.", allow_abbrev=False)
    default = Path(os.environ.get("BASE_DIR") or base_dir)
    parser.add_argument("--base_dir", type=Path, default=default, help="the data set's folder [%(default)s]")
    parser.add_argument("--lora", "--adapter", type=Path, help="the LoRA's folder or file [BASE_DIR/pixart_lora]")
    parser.add_argument("--output_dir", type=Path, help="default: BASE_DIR/finetuned")
    parser.add_argument("--use_meta", action="store_true", help="prompts are the captions of the prepared images")
    parser.add_argument("--prompt", action="append", default=[], help="a prompt; may be given several times")
    parser.add_argument("--num_samples", type=positive_integer, default=16, help="images to make [%(default)s]")
    parser.add_argument("--cfg", type=finite_number, default=4.5, help="classifier-free guidance scale [%(default)s]")
    parser.add_argument("--strength", type=finite_number, default=1.0, help="of the LoRA [%(default)s]")
    parser.add_argument("--batch_size", type=positive_integer, default=4)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args(given)
    try:
        print(visible(generate(arguments)))
    except (OSError, ValueError) as error:
        print(f"infer_finetuned: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def finite_number(text: str) -> float:
    """Return the number. Raises argparse.ArgumentTypeError."""
    if not math.isfinite(float(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return float(text)


def generate(arguments: argparse.Namespace) -> str:
    """Make the images; return one line on where they are.

    Raises:
        OSError, ValueError: no LoRA, no prompts, no weights.
    """
    from benchmark.console.progress import Progress
    from benchmark.measure.machine import choose_machine
    from benchmark.report.contact_sheet import SheetRow, draw_contact_sheet
    from benchmark.run.bulk import make_images
    from benchmark.run.journal import Journal
    from benchmark.settings.runtime import runtime_of
    from files.images import is_our_png
    from models import pixart
    from models.base import Request
    from models.loras.files import lora_digest

    lora = find_lora(arguments.base_dir, arguments.lora)
    prompts, real = read_prompts(arguments)
    settings = parse_command(["--models", "pixart"], os.environ).settings
    settings.refuse_sweep("infer_finetuned")
    machine = choose_machine(settings.device, settings.dtype)
    options = replace(
        base_options(settings.selected_models()[0].options, settings.weights), lora=str(lora),
        lora_scale=arguments.strength, guidance=arguments.cfg,
    )  # fmt: skip
    output = arguments.output_dir or arguments.base_dir / "finetuned"
    sheet = output / "samples.png"
    if (sheet.exists() or sheet.is_symlink()) and not is_our_png(sheet):
        raise ValueError(f"{sheet} was not written by this program: choose another --output_dir")
    runtime = replace(runtime_of(settings, "eager", machine), cache=output / "cache", offload=False)
    fingerprint = {
        "adapter": lora_digest(lora), "options": str(options), "weights": settings.weights,
        "device": machine.name, "dtype": machine.dtype, "image_size": str(settings.image_size),
        "batch_size": str(arguments.batch_size), "seed": str(arguments.seed),
    }  # fmt: skip
    journal = Journal(output, fingerprint)
    requests = [
        Request(number, prompts[number % len(prompts)], arguments.seed + number)
        for number in range(arguments.num_samples)
    ]
    make_images(
        lambda: pixart.FAMILY.load(options, runtime),
        requests,
        journal,
        arguments.batch_size,
        machine.device,
        Progress(),
    )

    def reference(number: int) -> dict[str, Path | None]:
        return {"reference": real[number % len(real)]} if real else {}

    rows = [
        SheetRow(request.prompt, {"LoRA": journal.image_path(number), **reference(number)}, {})
        for number, request in enumerate(requests)
    ]
    draw_contact_sheet(rows, ["LoRA", "reference"] if real else ["LoRA"], sheet)
    return f"{output / 'output'}: {len(requests)} images of {len(set(prompts))} prompts; {sheet}"


def read_prompts(arguments: argparse.Namespace) -> tuple[list[str], list[Path]]:
    """Return the prompts, and the real image of each, in their order; no images where the prompts have none."""
    from finetuning.images import prompt_files

    if arguments.use_meta:
        files = prompt_files(arguments.base_dir / "input" / "train", arguments.base_dir / "input" / "test")
        return [file.caption for file in files], [file.path for file in files]
    named = [*arguments.prompt, *(os.environ.get("VALIDATION_PROMPT") or "").split("|")]
    prompts = [prompt.strip() for prompt in named if prompt.strip()]
    if not prompts:
        raise ValueError("no prompt: give --use_meta, --prompt TEXT or VALIDATION_PROMPT")
    return prompts, []


if __name__ == "__main__":
    leave(exit_status_of(main, "infer_finetuned", "stopped; run the same command to resume"))
