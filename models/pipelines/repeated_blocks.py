"""Which modules of a diffusers network are its repeated blocks: what `regional` compiles, each kind once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

# By class name, beside what diffusers lists itself. The residual blocks are most of a UNet's other time; the others'
# blocks lie deeper than in lists of the network's own.
_MORE: dict[str, tuple[str, ...]] = {
    "UNet2DConditionModel": ("ResnetBlock2D",),
    "UNet2DModel": ("ResnetBlock2D",),
    "Decoder": ("ResnetBlock2D",),
    "Kandinsky3UNet": ("Kandinsky3ResNetBlock", "Kandinsky3AttentionBlock"),
    "StableCascadeUNet": ("SDCascadeResBlock", "SDCascadeAttnBlock", "SDCascadeTimestepBlock"),
    "WuerstchenDiffNeXt": ("ResBlockStageB", "TimestepBlock"),
}


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks that a network repeats; empty where it has none.

    They are those of the classes that diffusers lists for its own regional compilation, and that this file adds to.
    Where neither knows a network of diffusers, they are the members of the lists of modules that it holds itself.
    """
    names = (*_listed(network), *_MORE.get(type(network).__name__, ()))
    if names:
        return [module for module in network.modules() if type(module).__name__ in names]
    if not isinstance(getattr(network, "_repeated_blocks", None), list):
        return []  # a part of a network, or another library's
    lists = [part for part in network.children() if isinstance(part, nn.ModuleList)]
    return [block for part in lists for block in part if next(block.children(), None) is not None]


def _listed(network: nn.Module) -> Sequence[str]:
    listed = getattr(network, "_repeated_blocks", None)
    return tuple(listed) if isinstance(listed, (list, tuple)) else ()
