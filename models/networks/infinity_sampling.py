"""How Infinity draws an image: bits from the transformer's logits, scale by scale.

B images, R rows (conditional, then unconditional with guidance), L tokens, V = 2d logits of the d bits of a token.
Source: Han et al., Infinity: Scaling Bitwise AutoRegressive Modeling (arXiv 2412.04431).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from models.networks.bsq_vae import BitwiseScales
from models.networks.infinity_transformer import Constants, Context, Infinity, Text
from models.networks.next_scale import Schedule, draw_bits, guide
from models.networks.noise import Noise
from models.networks.operations import Rotation


@dataclass(frozen=True)
class BitSampling:
    """How bits are drawn; `cfg` and `tau` may be given scale by scale.

    cfg: guidance scale (1: none). tau: temperature. top_k: 1 takes the likelier bit. top_p: a bit value with at most
    1 - top_p is never drawn (0 turns it off). insertion: 0: guidance of the logits; -m: of the stream after block
    depth - m, as published (`cfg_insertion_layer`).
    """

    cfg: float | tuple[float, ...] = 4.0
    tau: float | tuple[float, ...] = 0.5
    top_k: int = 900
    top_p: float = 0.97
    insertion: int = 0

    def cfg_at(self, scale: int) -> float:
        return self.cfg[scale] if isinstance(self.cfg, tuple) else self.cfg

    def tau_at(self, scale: int) -> float:
        return self.tau[scale] if isinstance(self.tau, tuple) else self.tau

    @property
    def is_guided(self) -> bool:
        """Whether any scale needs the unconditional rows."""
        return any(cfg != 1 for cfg in (self.cfg if isinstance(self.cfg, tuple) else (self.cfg,)))

    def mixing(self, scale: int, depth: int) -> dict[int, float] | None:
        """Return what `Infinity.forward` takes as `mixing` at this scale."""
        return {depth + self.insertion: self.cfg_at(scale)} if self.insertion and self.cfg_at(scale) != 1 else None

    def guided(self, scale: int, logits_RLV: Tensor, batch: int | None = None) -> Tensor:
        """Return `logits_BLV` of the rows of each image, with temperature and guidance; there are two rows an image.

        batch: where there may be one row an image, without guidance.
        """
        logits_RLV = logits_RLV / self.tau_at(scale)
        if self.insertion or self.cfg_at(scale) == 1:
            return logits_RLV[: batch or len(logits_RLV) // 2]
        return guide(logits_RLV, self.cfg_at(scale) - 1)

    def chooser(self, noise: Noise) -> Callable[[int, Tensor], Tensor]:
        """Return the function that draws the bits of a scale, given the logits of both rows of each image."""

        def choose(scale: int, logits_RLV: Tensor) -> Tensor:
            exponentials_BNW = noise.exponentials[scale]
            guided_BLV = self.guided(scale, logits_RLV, len(exponentials_BNW))
            return draw_bits(guided_BLV, self.top_k, self.top_p, exponentials_BNW)

        return choose


class ScaleStep(NamedTuple):
    """What one scale of the sampler made: logits of both rows of each image, bits, the estimate so far."""

    logits_RLV: Tensor
    bits_BLd: Tensor
    sum_BdHW: Tensor


def sample_scales(
    infinity: Infinity,
    schedule: Schedule,
    rotation: Rotation,
    text: Text,
    choose: Callable[[int, Tensor], Tensor],
    mixing: Sequence[Mapping[int, float] | None],
    constants: Constants | None = None,
    rows_each: int = 2,
) -> Iterator[ScaleStep]:
    """Generate scale by scale with a KV cache; the last step's estimate is the image's latents.

    text: of R rows, `Infinity.with_unconditional`, or of the prompts alone with `rows_each` = 1, without guidance.
    rotation: `Infinity.rotation(schedule)`.
    """
    scales, bits = BitwiseScales(schedule.grids), infinity.shape.bits
    condition = infinity.condition(text, constants)
    rows, offsets = len(text.mask_RT), schedule.offsets
    caches = infinity.new_cache(rows, offsets[-1])
    sum_BdHW = scales.empty_sum(rows // rows_each, bits, text.features_RTt.device)
    x_RLC = infinity.embed(condition.first_R1C + infinity.pos_start, 0)
    for scale in range(len(schedule.grids)):
        start, end = offsets[scale : scale + 2]
        context = Context(rotation.between(start, end), condition.text_mask_R11T, start)
        logits_RLV = infinity(x_RLC, condition, context, caches, mixing[scale])
        bits_BLd = choose(scale, logits_RLV)
        sum_BdHW = scales.add(sum_BdHW, scale, bits_BLd)
        yield ScaleStep(logits_RLV, bits_BLd, sum_BdHW)
        if scale + 1 < len(schedule.grids):
            inputs_BLd = scales.input_of(scale + 1, sum_BdHW)
            x_RLC = infinity.embed(infinity.word_embed(inputs_BLd), scale + 1).repeat(rows_each, 1, 1)
