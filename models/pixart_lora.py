"""A LoRA on PixArt's transformer: checked against its base, put on, and fused into the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from files.opening import load_tensors
from files.reading import shown
from models.loras.conversion import convert_lora
from models.loras.files import CONFIG_NAME, LoraConfig, find_lora, read_lora
from models.loras.spellings import PEFT_PREFIX
from models.pipelines.generator import quiet_libraries

# Largest relative difference of the fused network's answer, by what rounding the weights once more costs.
FUSED_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_KINDS = ("A.weight", "B.weight", "magnitude_vector")
_PROBE_TOKENS, _PROBE_SIDE = 8, 16


def check_lora(place: Path, transformer: Any) -> tuple[LoraConfig, list[str]]:
    """Return a LoRA's configuration and the layers that it is for, after every tensor was held against its layer.

    Raises:
        OSError: there is no LoRA.
        ValueError: it is no LoRA, or it was made for another network.
    """
    opened = _open_lora(place, transformer)
    return opened.config, opened.layers


@dataclass(frozen=True)
class _Opened:
    """A LoRA that fits its network. tensors: by the names that PEFT gives them. note: on its strength, or empty."""

    config: LoraConfig
    layers: list[str]
    tensors: Mapping[str, Tensor]
    note: str = ""


def _open_lora(place: Path, transformer: Any) -> _Opened:
    """Return the LoRA in a folder or file of any tool. Raises as `check_lora`."""
    config, shapes = read_lora(place)
    weights = find_lora(place).weights
    if config is not None:
        layers = _check_layers(place, transformer, config, shapes)  # before anything is read
        return _Opened(config, layers, load_tensors(weights))
    config, tensors, note = convert_lora(weights, transformer)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return _Opened(config, _check_layers(place, transformer, config, shapes), tensors, note)


def _check_layers(
    place: Path, transformer: Any, config: LoraConfig, shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Return the layers that tensors of these names, as PEFT gives them, and shapes are for. Raises ValueError."""
    network = dict(transformer.named_modules())
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        path, _, kind = key.removeprefix(PEFT_PREFIX).partition(".lora_")
        if kind not in _KINDS:
            raise ValueError(f"{place} holds a tensor {shown(key)}, which is no part of a LoRA on linear layers")
        parts.setdefault(path, {})[kind] = shape
    for path, found in parts.items():
        weight = getattr(network.get(path), "weight", None)
        if weight is None:
            raise ValueError(
                f"{place} does not fit the base: it has a part for {shown(path)}, which this "
                f"{type(transformer).__name__} of {len(transformer.transformer_blocks)} blocks lacks; "
                "give the base that it was trained on"
            )
        if not isinstance(network[path], (torch.nn.Linear, torch.nn.Conv2d)):
            raise ValueError(f"{place} has a part for {shown(path)}, which is no linear layer")
        _check_shapes(place, path, found, weight, config)
    return list(parts)


def _check_shapes(
    folder: Path, path: str, found: Mapping[str, tuple[int, ...]], weight: Tensor, config: LoraConfig
) -> None:
    rank = config.rank_of(path)
    # Of a convolution, the first part has its kernel, and the second one is of one pixel.
    wanted: dict[str, tuple[int, ...]] = {
        "A.weight": (rank, *weight.shape[1:]),
        "B.weight": (weight.shape[0], rank, *(1 for _ in weight.shape[2:])),
    }
    if config.use_dora:
        wanted["magnitude_vector"] = (weight.shape[0],)
    if found.keys() != wanted.keys():
        raise ValueError(f"{folder} holds {', '.join(sorted(found))} of {path}; expected {', '.join(sorted(wanted))}")
    for kind, channel in (("A.weight", 1), ("B.weight", 0)):
        if len(found[kind]) == len(wanted[kind]) and found[kind][channel] != wanted[kind][channel]:
            raise ValueError(
                f"{folder} does not fit the base: {path} has {wanted[kind][channel]} channels, the LoRA's part "
                f"{found[kind][channel]}; give the base that it was trained on"
            )
    for kind, shape in found.items():
        if shape != wanted[kind]:
            raise ValueError(
                f"{folder} is damaged: {path}.lora_{kind} is {list(shape)}, by {CONFIG_NAME} it should be "
                f"{list(wanted[kind])}; copy or train the LoRA again"
            )


def attach_lora(transformer: Any, place: Path, strength: float = 1.0) -> Any:
    """Return the transformer wrapped in a PeftModel with the LoRA at `strength` (1: as trained).

    place: the LoRA's folder in PEFT's format, or a folder or file of another tool, which is converted on reading.

    Raises:
        OSError, ValueError: as `check_lora`.
    """
    return _attach(transformer, _open_lora(place, transformer), strength)


def _attach(transformer: Any, opened: _Opened, strength: float) -> Any:
    import peft
    from peft.tuners.lora import LoraLayer

    found = opened.config
    # Not by PEFT from the file, of which entries name modules to import.
    config = peft.LoraConfig(
        r=found.rank,
        lora_alpha=found.alpha,
        target_modules=opened.layers,
        rank_pattern=dict(found.rank_pattern),
        alpha_pattern=dict(found.alpha_pattern),
        use_rslora=found.use_rslora,
        use_dora=found.use_dora,
        inference_mode=True,
    )
    model = peft.PeftModel(transformer, config)
    loaded = peft.set_peft_model_state_dict(model, dict(opened.tensors))
    assert not loaded.unexpected_keys, "every tensor was held against its layer"
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.scaling:
                module.scaling[name] *= strength
    return model.eval().requires_grad_(False)


def fuse_lora(transformer: Any, place: Path, strength: float = 1.0) -> tuple[Any, str]:
    """Return the transformer with the LoRA added into its weights, and a note on how exactly that was done.

    The sums are formed in float32 and rounded once to the transformer's dtype. The fused network must answer as the
    one with the LoRA beside it does.

    Raises:
        OSError, ValueError: as `check_lora`; ValueError where the fused network answers something else.
    """
    dtype = transformer.dtype
    if strength == 0:  # of a DoRA, its directions at strength 0 would still leave its magnitudes
        check_lora(place, transformer)
        return transformer, "not applied: the base's own weights"
    opened = _open_lora(place, transformer)
    model = _attach(transformer, opened, strength)
    beside = _probe(model)
    with model.disable_adapter():
        without = _probe(model)
    with quiet_libraries():  # diffusers warns of every cast
        fused = model.float().merge_and_unload(safe_merge=True).to(dtype)
    difference, effect = (_relative(_probe(fused), beside), _relative(without, beside))
    if not difference <= FUSED_TOLERANCE[dtype]:
        raise ValueError(
            f"{place} cannot be fused in {str(dtype).removeprefix('torch.')}: its output then differs by "
            f"{difference:.1e} (relative) from the unfused one, more than rounding explains; use DTYPE=float32"
        )
    return fused, (
        f"fused into the weights: output within {difference:.0e} (relative) of the unfused one; "
        f"the LoRA changes it by {effect:.0e}" + (f"; {opened.note}" if opened.note else "")
    )


def _relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp(min=1e-12))


@torch.no_grad()
def _probe(network: Any) -> Tensor:
    """Return the network's answer, float32, to one fixed noisy latent and caption."""
    config, weight = network.config, next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, config["in_channels"], _PROBE_SIDE, _PROBE_SIDE, generator=generator)
    text = torch.randn(1, _PROBE_TOKENS, config["caption_channels"], generator=generator)
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    like = {"device": weight.device, "dtype": base.dtype}
    answer: Tensor = network(
        latents.to(**like),
        encoder_hidden_states=text.to(**like),
        timestep=torch.tensor([500], device=weight.device),
        added_cond_kwargs=size_conditions(base, 1, _PROBE_SIDE, weight.device),
        return_dict=False,
    )[0]
    return answer.float()


def size_conditions(transformer: Any, count: int, latent_side: int, device: Any) -> dict[str, Tensor | None]:
    """Return what the network is told of the images' size: nothing, but for the PixArt-alpha of 1024 px."""
    if not transformer.config.use_additional_conditions:
        return {"resolution": None, "aspect_ratio": None}
    side = torch.full((count, 2), 8.0 * latent_side, device=device, dtype=transformer.dtype)
    return {"resolution": side, "aspect_ratio": torch.ones(count, 1, device=device, dtype=transformer.dtype)}
