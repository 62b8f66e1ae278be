"""A LoRA of another tool than PEFT as PEFT would have written it: its tensors by layer, and its ranks and alphas."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from files.opening import open_tensors
from files.reading import shown
from models.loras.files import LoraConfig, checked_config
from models.loras.spellings import PEFT_PREFIX, Kind, read_name, spellings_of

# Under this key diffusers keeps the configuration that PEFT would write beside the file.
_METADATA, _METADATA_PREFIX = "lora_adapter_metadata", "transformer."


def convert_lora(weights: Path, transformer: Any) -> tuple[LoraConfig, dict[str, Tensor], str]:
    """Return a LoRA's configuration, its tensors by the names that PEFT gives them, and a note on its strength, or "".

    Every layer is scaled by its alpha over its rank, as it was trained: alpha stands in the file, or in its header as
    diffusers writes it, or it is the rank, as diffusers has it where nothing is said.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or no LoRA for this network; the text names it.
    """
    with open_tensors(weights, "pt") as file:
        told = _read_metadata(file.metadata() or {}, weights)
        parts: dict[str, dict[Kind, Tensor]] = {}
        for name in file.keys():  # noqa: SIM118 (no mapping)
            part = read_name(name)
            if part.kind in parts.setdefault(part.layer, {}):
                raise ValueError(f"{weights} holds {part.kind} of {shown(part.layer)} twice: {shown(name)}")
            parts[part.layer][part.kind] = file.get_tensor(name)
    layers = {
        name: module.weight
        for name, module in transformer.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    }
    spellings = spellings_of(layers)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for spelled, found in parts.items():
        if spelled not in spellings:
            raise ValueError(
                f"{weights} does not fit the base: it has a part for {shown(spelled)}, which this "
                f"{type(transformer).__name__} of {len(transformer.transformer_blocks)} blocks lacks; "
                "give the base that it was trained on"
            )
        paths = spellings[spelled]
        if not {"A.weight", "B.weight"} <= found.keys():
            raise ValueError(f"{weights} holds {', '.join(sorted(found))} of {spelled}; expected A.weight and B.weight")
        down, up = found["A.weight"], found["B.weight"]
        rank = len(down) if down.ndim else 0
        if not rank or up.ndim < 2 or up.shape[1] != rank:
            raise ValueError(
                f"{weights} is damaged: the two parts of {spelled} are {list(down.shape)} and {list(up.shape)}; copy "
                "or train the LoRA again"
            )
        rows = [layers[path].shape[0] for path in paths]
        if sum(rows) != len(up):
            raise ValueError(
                f"{weights} does not fit the base: {spelled} has {sum(rows)} channels, the LoRA's part {len(up)}; give "
                "the base that it was trained on"
            )
        alpha = _read_alpha(found["alpha"], spelled, weights) if "alpha" in found else None
        for path, rows_up in zip(paths, torch.split(up, rows), strict=True):
            if path in ranks:
                raise ValueError(f"{weights} holds {path} twice, under two names")
            of_layer = {"A.weight": down, "B.weight": rows_up}
            if "magnitude_vector" in found:
                of_layer["magnitude_vector"] = found["magnitude_vector"]
            for kind, tensor in of_layer.items():
                flat = tensor.ndim == 4 and layers[path].ndim == 2 and tensor.shape[2:] == (1, 1)
                key = f"{PEFT_PREFIX}{path}.lora_{kind}"
                tensors[key] = tensor.flatten(1).contiguous() if flat else tensor.contiguous()
            ranks[path] = rank
            alphas[path] = alpha if alpha is not None else told.alpha_of(path) if told is not None else rank
    unsaid = told is None and not any("alpha" in found for found in parts.values())
    use_dora = any("magnitude_vector" in found for found in parts.values())
    config = _config(ranks, alphas, use_rslora=told is not None and told.use_rslora, use_dora=use_dora)
    return config, tensors, "no alpha in its file, which counts as its rank" if unsaid else ""


def _config(ranks: Mapping[str, int], alphas: Mapping[str, float], *, use_rslora: bool, use_dora: bool) -> LoraConfig:
    rank, alpha = Counter(ranks.values()).most_common(1)[0][0], Counter(alphas.values()).most_common(1)[0][0]
    return LoraConfig(
        rank=rank,
        alpha=alpha,
        # The whole path, so that PEFT finds this layer alone.
        rank_pattern={f"^{path}": own for path, own in ranks.items() if own != rank},
        alpha_pattern={f"^{path}": own for path, own in alphas.items() if own != alpha},
        use_rslora=use_rslora,
        use_dora=use_dora,
    )


def _read_alpha(tensor: Tensor, layer: str, weights: Path) -> float:
    alpha = float(tensor.float()) if tensor.numel() == 1 else math.nan
    if not math.isfinite(alpha):
        raise ValueError(f"{weights} is damaged: alpha of {layer} is no number; copy or train the LoRA again")
    return alpha


def _read_metadata(metadata: Mapping[str, str], weights: Path) -> LoraConfig | None:
    """Return what diffusers wrote of the transformer's LoRA into the file's header, or None where it wrote nothing.

    Raises:
        ValueError: it is damaged, or asks for what is not known here.
    """
    if _METADATA not in metadata:
        return None
    try:
        content = json.loads(metadata[_METADATA])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{weights} is damaged: its {_METADATA} is no JSON; copy or train the LoRA again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{weights} is damaged: its {_METADATA} is no JSON object; copy or train the LoRA again")
    own = {
        key.removeprefix(_METADATA_PREFIX): value for key, value in content.items() if key.startswith(_METADATA_PREFIX)
    }
    return checked_config({"peft_type": "LORA"} | own, weights, weights) if own else None
