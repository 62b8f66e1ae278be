"""One step of a training: which images, which noise, the loss, its gradients, the optimizer.

Every random draw follows from the seed and the step's number, and is made for the batch of all processes together, of
which each takes its share. So a step can be made again, and two processes learn what one does with twice the batch.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from finetuning.compiled import (
    FLOAT16_SCALE,
    GRADIENT_TOLERANCE,
    PARTS,
    REPEATS,
    gradient_error,
    in_parts,
    noise_added,
)
from finetuning.encodings import Encodings
from finetuning.graphs import GraphedPass
from finetuning.objective import Noising, weighted_loss
from finetuning.settings import TrainingSettings
from models.pixart_lora import size_conditions


class TrainingStep:
    """Makes step 0, 1, ... of a training. `model` is a PeftModel as accelerate has prepared it.

    images: how many of them a step is made of, over all processes.
    compiled: whether compiled passes are made; before the first step they must give the plain pass's gradients.
    compiled_error: by how much these differed, see `gradient_error`; None before the first step.
    """

    def __init__(
        self, settings: TrainingSettings, accelerator: Any, model: Any, optimizer: Any, scheduler: Any,
        encodings: Encodings,
    ) -> None:  # fmt: skip
        self._settings, self._accelerator, self._model, self.optimizer = settings, accelerator, model, optimizer
        self._encodings = encodings
        self._device = torch.device(accelerator.device)
        self._transformer = accelerator.unwrap_model(model).get_base_model()
        self._dtype: torch.dtype = self._transformer.dtype
        self._noising = Noising(scheduler, self._device)
        self._caption_tokens = encodings.captions.longest
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._graphed = GraphedPass(self._loss, self._parameters) if self._can_be_graphed() else None
        self.compiled = settings.compile
        self._compiled_calls = [block._compiled_call_impl for block in self._transformer.transformer_blocks]
        self.compiled_error: float | None = None
        self._rank = accelerator.process_index
        self._in_a_pass = settings.batch_size * accelerator.num_processes
        self.images = self._in_a_pass * settings.gradient_accumulation

    def _can_be_graphed(self) -> bool:
        """Return whether a pass is the same kernels every time, on one GPU: dropout and checkpoints reseed in between,
        several processes wait for one another, float16 scales its loss, and at another size than the base's own the
        network works out positions on the CPU.
        """
        settings = self._settings
        return (
            settings.compile
            and self._device.type == "cuda"
            and self._accelerator.num_processes == 1
            and self._accelerator.scaler is None
            and not (settings.lora_dropout or settings.gradient_checkpointing)
            and self._encodings.latents_VNCHW.shape[-1] == self._transformer.config.sample_size
        )

    def __call__(self, step: int) -> Tensor:
        """Make one step and return its mean loss over this process's images, a tensor on the device."""
        settings = self._settings
        if self.compiled and self.compiled_error is None:
            self._check_compiled(step)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        total = torch.zeros((), device=self._device)
        for part in range(settings.gradient_accumulation):
            inputs = self._draw(step, part)
            if self._graphed is not None:
                total += self._graphed(inputs)
                continue
            last = part == settings.gradient_accumulation - 1
            with nullcontext() if last else self._accelerator.no_sync(self._model):
                loss = self._loss(inputs)
                self._accelerator.backward(loss)
            total += loss.detach()
        if self._accelerator.sync_gradients:
            self._accelerator.clip_grad_norm_(self._parameters, settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=self._graphed is None)
        return total

    @torch.no_grad()
    def _draw(self, step: int, part: int) -> dict[str, Tensor]:
        """Return this process's share of a pass: noised latents, captions, timesteps, and what is to be told."""
        settings, device = self._settings, self._device
        generator = torch.Generator(device).manual_seed(mix(settings.seed, step, part))
        latents_VNCHW, captions = self._encodings.latents_VNCHW, self._encodings.captions
        chosen_G = self._chosen(len(self._encodings), step, part)
        mirrored_G = torch.zeros_like(chosen_G)
        if settings.flip:
            mirrored_G = torch.rand(len(chosen_G), generator=generator, device=device).lt(0.5).long().cpu()
        place = latents_VNCHW.device
        latents_GCHW = latents_VNCHW[mirrored_G.to(place), chosen_G.to(place)].to(device)
        noised_GCHW, timesteps_G, target_GCHW = self._noising.draw(latents_GCHW, generator)
        dropped_G = torch.rand(len(chosen_G), generator=generator, device=device) < settings.caption_dropout

        mine = slice(self._rank * settings.batch_size, (self._rank + 1) * settings.batch_size)
        place = captions.lengths_N.device
        numbers_B = self._encodings.caption_of_N[chosen_G[mine]].to(place)
        numbers_B = numbers_B.masked_fill(dropped_G[mine].to(place), 0)
        texts_BLC, mask_BL = captions.padded(numbers_B, self._caption_tokens)
        if settings.lora_dropout:
            torch.manual_seed(mix(settings.seed, step, part, self._rank))
        return {
            "noised": noised_GCHW[mine].to(self._dtype),
            "texts": texts_BLC.to(device, self._dtype),
            "mask": mask_BL.to(device),
            "timesteps": timesteps_G[mine],
            "target": target_GCHW[mine],
            "weights": self._noising.weights(timesteps_G[mine], settings.loss_weighting, settings.snr_gamma),
        }

    def _loss(self, inputs: Mapping[str, Tensor]) -> Tensor:
        images, latent_side = len(inputs["noised"]), inputs["noised"].shape[-1]
        predicted_BCHW = self._model(
            inputs["noised"],
            encoder_hidden_states=inputs["texts"],
            encoder_attention_mask=inputs["mask"],
            timestep=inputs["timesteps"],
            added_cond_kwargs=size_conditions(self._transformer, images, latent_side, self._device),
            return_dict=False,
        )[0]
        loss = weighted_loss(predicted_BCHW, inputs["target"], inputs["weights"])
        return loss / self._settings.gradient_accumulation

    def _check_compiled(self, step: int) -> None:
        """Go on without the compiler where its gradients are not those of the plain pass, or it fails; and say so.

        Dropout draws other numbers when compiled: with it, compiled passes are held against one another.
        """
        inputs = self._draw(step, 0)
        with noise_added(self._parameters, self._settings.seed):
            worst, failure = self._compilers_error(inputs)
        # One decision for all processes.
        self.compiled_error = float(self._accelerator.gather(torch.tensor([worst], device=self._device)).max())
        tolerance = GRADIENT_TOLERANCE[self._dtype]
        self._use_compiler(self.compiled_error <= tolerance)
        if self.compiled or not (self._accelerator.is_main_process or failure):
            return
        found = (
            f"gives wrong gradients here: their error is {self.compiled_error:.1e}, and rounding explains "
            f"at most {tolerance}"
        )
        print(
            f"torch.compile of torch {torch.__version__} {failure or found}. This training goes on without it, "
            "slower and with more memory",
            file=sys.stderr,
        )

    def _compilers_error(self, inputs: Mapping[str, Tensor]) -> tuple[float, str]:
        """Return the worst error of some compiled passes (nan, and why, where there is none)."""
        self._use_compiler(bool(self._settings.lora_dropout))
        try:
            wanted = self._gradients(inputs, 1 if self.compiled else PARTS)
            if not all(bool(gradient.isfinite().all()) for gradient in wanted):
                return 0.0, ""  # nothing to hold a compiler against: the loss will tell
            self._use_compiler(True)
            errors = [gradient_error(self._gradients(inputs, 1), wanted) for _ in range(REPEATS)]
        except torch._dynamo.exc.TorchDynamoException as error:
            first, *more = str(error).splitlines()
            return math.nan, f"fails here ({' '.join([first, *more[:1]])})"
        return float(torch.tensor(errors).max()), ""  # nan where one is nan

    def _use_compiler(self, compiled: bool) -> None:
        """Have the blocks run as compiled, or plainly."""
        # Not torch.compiler.set_stance: what checkpoints compute again, backwards, would not know of it.
        self.compiled = compiled
        for block, call in zip(self._transformer.transformer_blocks, self._compiled_calls, strict=True):
            block._compiled_call_impl = call if compiled else None

    def _gradients(self, inputs: Mapping[str, Tensor], parts: int) -> list[Tensor]:
        """Return the gradients of this process's share of a pass, computed in so many parts."""
        scale = FLOAT16_SCALE if self._accelerator.scaler is not None else 1.0
        for parameter in self._parameters:
            parameter.grad = None
        for part, share in in_parts(inputs, parts):
            if self._settings.lora_dropout:
                torch.manual_seed(self._settings.seed)
            with self._accelerator.no_sync(self._model):
                (self._loss(part) * (share * scale)).backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        return [gradient for gradient in gradients if gradient is not None]

    def _chosen(self, count: int, step: int, part: int) -> Tensor:
        """Return the images of this pass, `numbers_G`: the next of an endless row of shuffled epochs."""
        first = step * self.images + part * self._in_a_pass
        places = range(first, first + self._in_a_pass)
        orders = {
            epoch: torch.randperm(count, generator=torch.Generator().manual_seed(mix(self._settings.seed, epoch)))
            for epoch in {place // count for place in places}
        }
        return torch.stack([orders[place // count][place % count] for place in places])


def mix(*numbers: int) -> int:
    """Return a seed of 63 bits that follows from the numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()) >> 1
