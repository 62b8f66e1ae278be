"""Fine-tunes PixArt-Sigma with a LoRA on a folder of captioned images.

    python scripts/pixart_scripts/common/train_lora.py --train_dir local_repo/WikiArt/input/train \\
        --base local_repo/pixart_base --output_dir local_repo/WikiArt/pixart_lora
    torchrun --nproc-per-node 2 scripts/pixart_scripts/common/train_lora.py ...

Defaults come from the environment: BASE_DIR (its input/train), OUTPUT_DIR, COMBINED_BASE, BS, STEPS, LR, LORA_RANK,
VALIDATION_PROMPT. RANK, the former name of LORA_RANK, still works where no launcher numbers its processes with it
(where neither WORLD_SIZE nor LOCAL_RANK is set). The result is a folder in PEFT's form; `training/` in it holds
metrics.jsonl, loss.png, validation images, TensorBoard events and checkpoints. The same command again resumes a
training that was stopped, and does nothing where it is finished. Several processes, which torchrun or accelerate launch
starts, make each step together, each with BS images on a GPU of its own. Exit status: 0, 2 where the training cannot be
run as asked, 1 where its loss is not finite or another process has died; 130, 143 or 129 where Ctrl-C, SIGTERM or
SIGHUP stopped it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.ranks.launch import check_device, is_first, read_launch
from benchmark.ranks.ranks import Ranks, open_ranks
from benchmark.ranks.speaking import SpeakingParser, say_failure
from benchmark.ranks.watch import seconds_to_settle
from finetuning.settings import TARGET_MODULES, LossWeighting, Schedule, TrainingSettings
from models.base import DType

LAUNCHERS_VARIABLES = ("WORLD_SIZE", "LOCAL_RANK")
GOES_ON = "run the same command to resume from the last checkpoint"


def rank_variable(environment: Mapping[str, str]) -> str:
    """Return the variable that holds the LoRA's rank: LORA_RANK, or RANK where that is set alone.

    A launcher's RANK is the number of a process.
    """
    launched = any(environment.get(name) for name in LAUNCHERS_VARIABLES)
    return "RANK" if environment.get("RANK") and not environment.get("LORA_RANK") and not launched else "LORA_RANK"


def build_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser; what the environment names is its default."""
    base_dir = Path(environment.get("BASE_DIR") or "local_repo/Gundam")
    parser = SpeakingParser(description="Fine-tune PixArt-Sigma with a LoRA.", allow_abbrev=False)

    def add(name: str, kind: Any, default: Any, text: str, variable: str = "", former: str = "", **more: Any) -> None:
        if variable and environment.get(variable):
            default = environment[variable]  # argparse converts it as it does a flag's value
        shown = f" ({variable})" if variable else ""
        flags = [f"--{one}" for one in (name, former) if one]
        parser.add_argument(*flags, type=kind, default=default, help=f"{text}{shown} [%(default)s]", **more)

    def add_switch(name: str, text: str) -> None:
        parser.add_argument(f"--{name}", action="store_true", help=text)

    defaults = TrainingSettings(Path(), Path(), Path())
    add("train_dir", Path, base_dir / "input" / "train", "captioned images; default: BASE_DIR/input/train")
    add("base", Path, Path("local_repo/pixart_base"), "a whole PixArt-Sigma folder", "COMBINED_BASE")
    add("output_dir", Path, base_dir / "pixart_lora", "the LoRA's folder", "OUTPUT_DIR")
    add("cache_dir", Path, None, "latents and caption encodings; default: encodings/ beside the LoRA")
    add("batch_size", int, defaults.batch_size, "images per pass and process", "BS")
    add("steps", int, defaults.steps, "optimizer steps", "STEPS")
    add("learning_rate", float, defaults.learning_rate, "highest learning rate", "LR")
    add("rank", int, defaults.rank, "rank of the LoRA", rank_variable(environment))
    add("alpha", int, 0, "scale = alpha / rank (rsLoRA: / sqrt(rank)); 0: alpha = rank")
    add_switch("rslora", "rank-stabilised scale: alpha / sqrt(rank)")
    add_switch("dora", "weight-decomposed LoRA")
    add("target_modules", _split, TARGET_MODULES, "names of linear layers, separated by commas")
    add("lora_dropout", float, 0.0, "dropout before the LoRA")
    add("resolution", int, 0, "pixels a side; 0: what the base was trained at")
    add("loss_weighting", str, "uniform", "uniform is PixArt's own", choices=get_args(LossWeighting))
    add("snr_gamma", float, defaults.snr_gamma, "gamma of min-snr")
    add("schedule", str, "cosine", "learning rate after the warm-up", choices=get_args(Schedule))
    add("warmup_steps", int, 0, "steps of linear warm-up")
    add("weight_decay", float, defaults.weight_decay, "weight decay of AdamW")
    add("adam_beta2", float, defaults.adam_beta2, "beta2 of AdamW; a lower one suits a short training")
    add("max_grad_norm", float, defaults.max_grad_norm, "gradients are clipped to this norm")
    add("gradient_accumulation", int, 1, "passes per step")
    add_switch("gradient_checkpointing", "less memory, a third more time")
    add_switch("compile", "torch.compile the blocks: less time and memory after a minute of compiling")
    add("caption_dropout", float, defaults.caption_dropout, "share of passes without caption, for guidance")
    add_switch("flip", "mirror half of the images")
    add("seed", int, defaults.seed, "decides everything that is random")
    add("dtype", str, "auto", "dtype of the arithmetic", choices=("auto", *get_args(DType)))
    add("lora_dtype", str, "float32", "of the saved LoRA", choices=get_args(DType), former="adapter_dtype")
    add("device", str, "auto", "auto, cpu or cuda")
    add("offload_text_encoder", str, "auto", "move T5 to the GPU part by part", choices=("auto", "always", "never"))
    add("log_every", int, defaults.log_every, "steps between lines of metrics.jsonl")
    add("checkpoint_every", int, defaults.checkpoint_every, "steps between checkpoints; 0: none but the last")
    add("validate_every", int, defaults.validate_every, "steps between validation images; 0: none")
    add(
        "validation_prompt",
        str,
        None,
        "prompts, separated by |; default: the first captions of input/test",
        "VALIDATION_PROMPT",
    )
    add("validation_guidance", float, defaults.validation_guidance, "guidance of validation images")
    add("validation_steps", int, defaults.validation_steps, "denoising steps of validation images")
    add("test_dir", Path, None, "held-out images, whose captions are validation prompts; default: beside train_dir")
    add_switch("fresh", "delete the LoRA and training that are in output_dir, and start over")
    return parser


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_settings(arguments: argparse.Namespace) -> TrainingSettings:
    """Return the settings. Raises ValueError where one of them cannot be."""
    given = vars(arguments).copy()
    del given["fresh"]
    test_dir = given["test_dir"] or given["train_dir"].parent / "test"
    prompt = given.pop("validation_prompt")
    prompts = tuple(part.strip() for part in prompt.split("|") if part.strip()) if prompt else ()
    return TrainingSettings(**given | {"test_dir": test_dir, "validation_prompts": prompts})


def main(given: Sequence[str] | None = None) -> int:
    """Train; return the exit status."""
    arguments = build_parser(os.environ).parse_args(given)
    rank = arguments.rank
    if rank_variable(os.environ) == "RANK" and os.environ["RANK"].strip() == str(rank):
        print(
            f"train_lora: RANK={rank} sets the rank of the LoRA; write LORA_RANK={rank} instead, since launchers use "
            "RANK for the number of a process",
            file=sys.stderr,
        )
    try:
        settings = read_settings(arguments)
        launch = read_launch()
        check_device(launch, settings.device)
    except (OSError, ValueError) as error:
        say_failure(f"train_lora: {one_line(error)}")
        return 2
    from finetuning.trainer import LossNotFinite, train_lora  # after the settings: this imports torch

    try:
        with open_ranks(launch, "train_lora", goes_on=GOES_ON) as ranks, _watched(ranks):
            outcome = train_lora(settings, fresh=arguments.fresh)
    except (LossNotFinite, OSError, ValueError) as error:
        if is_first():
            print(f"train_lora: {one_line(error)}", file=sys.stderr)
        return 1 if isinstance(error, LossNotFinite) else 2
    if outcome.is_main:
        told = f"loss {outcome.loss:.4f}" if outcome.loss is not None else "finished already"
        print(f"{visible(str(outcome.folder))}: {outcome.steps} steps, {told}")
    return 0


@contextmanager
def _watched(ranks: Ranks) -> Iterator[None]:
    """Leave it to the watch of the ranks to say why this process cannot go on, where another one is the reason."""
    try:
        yield
    except RuntimeError:  # what the processes do together fails at once where one has died
        ranks.settle()
        raise
    except KeyboardInterrupt:
        if not ranks.is_first:
            ranks.settle()
            if not ranks.has_heard("ended/0"):  # the signal was for this process alone
                ranks.fail("a signal stopped it")
        raise


if __name__ == "__main__":
    leave(exit_status_of(main, "train_lora", f"stopped; {GOES_ON}" if is_first() else "", seconds_to_settle()))
