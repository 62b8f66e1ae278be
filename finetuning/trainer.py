"""The training: encodings -> steps -> LoRA, through accelerate on one or several devices, resumable at a checkpoint.

A training goes on exactly where a checkpoint stands: parameters and AdamW's moments are in it, and all that is random
follows from the step's number (`finetuning.step`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from benchmark.console.progress import Progress, silent_stream
from benchmark.measure.machine import choose_machine
from files.images import decode_rgb
from files.reading import read_regular
from finetuning.base import Base, open_base
from finetuning.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from finetuning.claim import begun_with, check_apart, claim
from finetuning.encodings import Encodings, encode_all, encode_captions
from finetuning.folder import TrainingFolder
from finetuning.images import TrainingImage, prompt_files, read_images
from finetuning.lora import (
    add_lora,
    build_optimizer,
    check_target_modules,
    load_parameters,
    save_lora,
    trainable,
)
from finetuning.memory import check_memory, estimate_memory, free_memory
from finetuning.notes import tell
from finetuning.record import Record, peak_memory_bytes
from finetuning.settings import TrainingSettings
from finetuning.step import TrainingStep
from finetuning.validation import Validation
from models.loras.files import TRAINING_DATA_NAME, describe_training_data, training_data_text
from models.pipelines.generator import dtype_named

VALIDATION_PROMPTS = 4
ENCODING_HOURS = 12  # how long the other processes wait for the one that encodes
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Kept on the device where they are less than this share of what is free there.
RESIDENT_SHARE = 0.25


class LossNotFinite(ValueError):
    """The training broke down; the text says where, and which checkpoint is the last good one."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended. `trained`: whether steps were made; else the LoRA was there already. `is_main`: whether
    this process is the one of several that tells of it.
    """

    folder: Path
    trained: bool
    steps: int
    loss: float | None
    is_main: bool = True


def train_lora(settings: TrainingSettings, *, fresh: bool = False) -> Outcome:
    """Train the LoRA, or go on with it, or find it done; write it to `settings.output_dir`.

    fresh: delete first what a training wrote there.

    Raises:
        OSError, ValueError: what the user can fix, before the first step: images, captions, base, memory, settings
            that differ from those of a training that is there, files that are not ours, another training there.
        LossNotFinite: the loss is no number; the last good checkpoint is kept.
    """
    images = read_images(settings.train_dir)
    base = open_base(settings.base)
    base.check_side(settings.resolution or base.native_side)
    check_apart(settings)
    accelerator = _open_accelerator(settings)
    folder = TrainingFolder(settings.output_dir)
    with ExitStack() as held:
        if accelerator.is_main_process:
            images = claim(folder, settings, images, accelerator.num_processes, held, fresh)
        accelerator.wait_for_everyone()
        if not accelerator.is_main_process:
            folder = TrainingFolder(settings.output_dir)
            images = begun_with(folder, images)
        if folder.is_finished():
            accelerator.end_training()
            return Outcome(settings.output_dir, False, settings.steps, None, accelerator.is_main_process)
        return _Training(settings, base, images, accelerator, folder).run()


def _open_accelerator(settings: TrainingSettings) -> Any:
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    machine = choose_machine(settings.device, settings.dtype)
    if ":" in machine.device:  # accelerate takes the current one; several processes take that of their LOCAL_RANK each
        torch.cuda.set_device(machine.device)
    precision = next(name for name, dtype in _DTYPES.items() if dtype == dtype_named(machine.dtype))
    waiting = InitProcessGroupKwargs(timeout=timedelta(hours=ENCODING_HOURS))
    return Accelerator(mixed_precision=precision, cpu=machine.device == "cpu", kwargs_handlers=[waiting])


class _Training:
    """One training under way in this process."""

    def __init__(
        self,
        settings: TrainingSettings,
        base: Base,
        images: Sequence[TrainingImage],
        accelerator: Any,
        folder: TrainingFolder,
    ) -> None:
        self._settings, self._base, self._images = settings, base, images
        self._accelerator, self._folder = accelerator, folder
        self._device = str(accelerator.device)
        self._dtype = _DTYPES[accelerator.mixed_precision]
        self._progress = Progress(None if accelerator.is_main_process else silent_stream())

    def run(self) -> Outcome:
        settings, accelerator = self._settings, self._accelerator
        side = settings.resolution or self._base.native_side
        outline = self._base.outline_transformer()
        check_target_modules(outline, settings)
        estimate = estimate_memory(outline, settings, self._base.tokens(side), self._dtype)
        check_memory(estimate, settings.batch_size, free_memory(self._device), self._device)
        encodings = self._encode(side)
        prompts = validation_prompts(settings) if settings.validate_every else ()
        validation = self._open_validation(prompts, side) if prompts else None
        if self._device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device)
        model, optimizer = self._build()
        start = self._resume(model, optimizer)
        prepared, optimizer = accelerator.prepare(model, optimizer)
        step = TrainingStep(settings, accelerator, prepared, optimizer, self._base.load_scheduler(), encodings)
        record = Record(self._folder, start, settings.steps) if accelerator.is_main_process else None
        loss = self._loop(step, model, start, record, validation)
        if record is not None:
            self._finish(model, record)
            if loss is None and record.lines:  # all steps were made before
                loss = float(record.lines[-1]["loss"])
        accelerator.wait_for_everyone()
        accelerator.end_training()
        return Outcome(settings.output_dir, True, settings.steps, loss, accelerator.is_main_process)

    # Before the first step.

    def _encode(self, side: int) -> Encodings:
        settings = self._settings

        def encode() -> Encodings:
            return encode_all(
                self._images, settings.base, settings.cache, side=side, flip=settings.flip, device=self._device,
                dtype=self._dtype, progress=self._progress, offload=settings.offload_text_encoder,
            )  # fmt: skip

        # One process encodes, the others read what it kept.
        encodings = encode() if self._accelerator.is_main_process else None
        self._accelerator.wait_for_everyone()
        encodings = encodings or encode()
        size = encodings.latents_VNCHW.nbytes + encodings.captions.tokens_TC.nbytes
        if size > RESIDENT_SHARE * free_memory(self._device):
            return encodings
        return Encodings(
            encodings.latents_VNCHW.to(self._device), encodings.captions.to(self._device), encodings.caption_of_N
        )

    def _open_validation(self, prompts: Sequence[str], side: int) -> Validation | None:
        settings = self._settings
        if not self._accelerator.is_main_process:
            return None
        captions = encode_captions(
            ["", *prompts], settings.base, settings.cache, self._device, self._dtype, self._progress,
            settings.offload_text_encoder,
        )  # fmt: skip
        return Validation(
            settings.base,
            prompts,
            captions,
            side,
            settings.validation_steps,
            settings.validation_guidance,
            self._device,
        )

    def _build(self) -> tuple[Any, torch.optim.Optimizer]:
        transformer = self._base.load_transformer(self._dtype).to(self._device)
        model = add_lora(transformer, self._settings)
        return model, build_optimizer(model, self._settings, self._device)

    def _resume(self, model: Any, optimizer: torch.optim.Optimizer) -> int:
        checkpoint = load_checkpoint(self._folder.checkpoints, self._folder.ledger)
        if checkpoint is None:
            return 0
        load_parameters(model, checkpoint.parameters)
        optimizer.load_state_dict(checkpoint.optimizer)
        if self._accelerator.is_main_process:
            tell(f"resuming from step {checkpoint.step}")
        return checkpoint.step

    # The steps.

    def _loop(
        self, make_step: TrainingStep, model: Any, start: int, record: Record | None, validation: Validation | None
    ) -> float | None:
        settings = self._settings
        total, counted = torch.zeros((), device=self._device), 0
        mean, began, waited = None, time.monotonic(), 0.0
        for step in range(start, settings.steps):
            total += make_step(step)
            counted += 1
            done = step + 1
            if step == start and settings.compile and record is not None:
                error = make_step.compiled_error
                told = error if error is None or math.isfinite(error) else str(error).lstrip("-")
                self._folder.note(compiled=make_step.compiled, gradient_error=told)
            wants_checkpoint = bool(settings.checkpoint_every) and done % settings.checkpoint_every == 0
            if done % settings.log_every == 0 or wants_checkpoint or done == settings.steps:
                mean = self._mean_loss(total, counted, done)
                seconds = time.monotonic() - began - waited
                if record is not None:
                    rate, speed = settings.learning_rate_at(step), counted * make_step.images / seconds
                    record.add(done, mean, rate, speed, peak_memory_bytes(self._device))
                total, counted, began, waited = torch.zeros_like(total), 0, time.monotonic(), 0.0
            if record is not None:
                pause = time.monotonic()
                # Before the checkpoint: a training that goes on from there makes this image no more.
                if validation is not None and (done % settings.validate_every == 0 or done == settings.steps):
                    path = self._folder.validation / f"step-{done:06d}.png"
                    with self._folder.ledger.write(path) as partial:
                        validation.draw(model.get_base_model(), partial, settings.seed)
                    record.add_image("validation", path, done)
                if wants_checkpoint or done == settings.steps:
                    record.sync()
                    self._save(model, make_step.optimizer, done)
                    record.draw_loss()
                waited += time.monotonic() - pause
        return mean

    def _mean_loss(self, total: torch.Tensor, counted: int, done: int) -> float:
        mean = float(self._accelerator.reduce(total / counted, reduction="mean"))
        if not math.isfinite(mean):
            folder = TrainingFolder(self._folder.output)  # of several processes one alone knows what it wrote
            checkpoint = load_checkpoint(folder.checkpoints, folder.ledger)
            kept = f"the checkpoint of step {checkpoint.step} is kept" if checkpoint else "there was no checkpoint yet"
            raise LossNotFinite(
                f"the loss is {mean} at step {done}; {kept} in {self._folder.path}: try a smaller LR or a longer "
                "warm-up with another OUTPUT_DIR"
            )
        return mean

    # Afterwards.

    def _save(self, model: Any, optimizer: Any, step: int) -> None:
        parameters = {name: parameter.detach().cpu() for name, parameter in trainable(model).items()}
        checkpoint = Checkpoint(step, parameters, getattr(optimizer, "optimizer", optimizer).state_dict())
        save_checkpoint(self._folder.checkpoints, checkpoint, self._folder.ledger)

    def _finish(self, model: Any, record: Record) -> None:
        settings = self._settings
        folder = settings.output_dir
        record.draw_loss()
        record.close()
        digests = content_digests(self._images)
        dataset = settings.train_dir.resolve().parent.parent.name
        captions = [image.caption for image in self._images]
        ledger = self._folder.ledger
        text = training_data_text(describe_training_data(dataset, digests, captions))
        ledger.write_bytes(folder / TRAINING_DATA_NAME, text.encode())
        save_lora(model, folder, dtype_named(settings.lora_dtype), ledger)
        self._folder.note(finished=True)


def validation_prompts(settings: TrainingSettings) -> tuple[str, ...]:
    """Return the prompts that were named, else the first captions of the held-out images, or of those trained on."""
    if settings.validation_prompts:
        return settings.validation_prompts
    files = prompt_files(settings.train_dir, settings.test_dir)
    return tuple(dict.fromkeys(file.caption for file in files))[:VALIDATION_PROMPTS]


def content_digests(images: Sequence[TrainingImage]) -> list[str]:
    """Return the content digests by which the benchmark knows these images: their sources', or else their own."""
    from benchmark.data.decoding import content_digest

    own = [content_digest(decode_rgb(read_regular(image.path))) for image in images if not image.source_digest]
    return own + [image.source_digest for image in images if image.source_digest]
