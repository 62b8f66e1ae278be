"""What a training is asked for, checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.base import DType

LossWeighting = Literal["uniform", "min-snr"]
Schedule = Literal["cosine", "constant"]
TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
# These change nothing of what is learnt: a run goes on where they differ.
_FREE = ("train_dir", "test_dir", "base", "output_dir", "cache_dir", "device", "log_every", "checkpoint_every",
         "validate_every", "validation_prompts", "validation_guidance", "validation_steps",
         "offload_text_encoder")  # fmt: skip
# Settings that a training's folder records under another name, so that trainings of earlier versions go on.
_RECORDED = {"lora_dtype": "adapter_dtype"}


@dataclass(frozen=True)
class TrainingSettings:
    """One training of a LoRA; a batch is `batch_size * gradient_accumulation` images a process.

    base: a whole local diffusers folder. resolution: pixels a side, 0: what the base was trained at.
    alpha: 0: the rank, so that the scale is 1. lora_dtype: of the saved file. loss_weighting: PixArt's own is
    uniform.
    validate_every, checkpoint_every: steps; 0: never (a checkpoint at the end there is always).
    """

    train_dir: Path
    base: Path
    output_dir: Path
    test_dir: Path | None = None
    cache_dir: Path | None = None
    batch_size: int = 4
    steps: int = 1000
    learning_rate: float = 1e-4
    rank: int = 16
    alpha: int = 0
    rslora: bool = False
    dora: bool = False
    target_modules: tuple[str, ...] = TARGET_MODULES
    lora_dropout: float = 0.0
    resolution: int = 0
    loss_weighting: LossWeighting = "uniform"
    snr_gamma: float = 5.0
    schedule: Schedule = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.01
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    compile: bool = False
    caption_dropout: float = 0.1
    flip: bool = False
    seed: int = 42
    lora_dtype: DType = "float32"
    dtype: DType | Literal["auto"] = "auto"
    device: str = "auto"
    offload_text_encoder: Literal["auto", "always", "never"] = "auto"
    log_every: int = 10
    checkpoint_every: int = 250
    validate_every: int = 250
    validation_prompts: tuple[str, ...] = ()
    validation_guidance: float = 4.5
    validation_steps: int = 20

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "steps": 1, "rank": 1, "gradient_accumulation": 1, "log_every": 1, "alpha": 0,
                 "warmup_steps": 0, "checkpoint_every": 0, "validate_every": 0, "validation_steps": 1}  # fmt: skip
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least {bound}")
        for name, usual in {"learning_rate": "1e-4", "snr_gamma": "5", "max_grad_norm": "1"}.items():
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name}={getattr(self, name)}: expected a number above 0, such as {usual}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay={self.weight_decay}: expected 0 or more, such as 0.01")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device={self.device}: expected auto, cpu, cuda or cuda:1")
        for name in ("caption_dropout", "lora_dropout", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a share of 0 or more and less than 1")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} leaves none of the {self.steps} steps: give fewer")
        if not self.target_modules:
            raise ValueError(f"target_modules is empty: name layers, such as {','.join(TARGET_MODULES)}")

    @property
    def cache(self) -> Path:
        """Where encodings are kept: beside the LoRA, unless another folder was named."""
        return self.cache_dir or self.output_dir.parent / "encodings"

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of step 0..steps-1: linear warm-up, then constant or a cosine to zero."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        if self.schedule == "constant":
            return self.learning_rate
        share = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def fingerprint(self) -> dict[str, str]:
        """Return what decides the weights, name to value, as far as the settings say it."""
        values = dataclasses.asdict(self)
        return {_RECORDED.get(name, name): str(value) for name, value in values.items() if name not in _FREE}
