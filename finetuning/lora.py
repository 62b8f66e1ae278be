"""The LoRA: put on a transformer, and saved in PEFT's form, which stock PEFT loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from files.ledger import Ledger
from finetuning.settings import TrainingSettings
from models.loras.files import CONFIG_NAME, WEIGHTS_NAME


def check_target_modules(transformer: Any, settings: TrainingSettings) -> None:
    """Raise ValueError where no linear layer of the transformer has one of the names that the LoRA is to go to."""
    names = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    lost = [t for t in settings.target_modules if not any(n == t or n.endswith(f".{t}") for n in names)]
    if lost:
        examples = ", ".join(dict.fromkeys(name.split("blocks.0.")[-1] for name in names[:12]))
        raise ValueError(f"target_modules: the base has no linear layer {lost[0]}; there are {examples}, ...")


def add_lora(transformer: Any, settings: TrainingSettings) -> Any:
    """Return the frozen transformer as a PeftModel with a new LoRA, float32, which at first changes nothing.

    It is in training mode, checkpointed and compiled as the settings say.

    Raises:
        ValueError: see `check_target_modules`.
    """
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or settings.rank,
        target_modules=list(settings.target_modules),
        lora_dropout=settings.lora_dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
    )
    check_target_modules(transformer, settings)
    transformer.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = get_peft_model(transformer, config)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            # Autocast brings both factors to the weights' dtype; PEFT would bring the input to theirs first.
            module.cast_input_dtype_enabled = False
    for parameter in trainable(model).values():
        parameter.data = parameter.data.float()
    if settings.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if settings.compile:
        for block in transformer.transformer_blocks:
            block.compile(fullgraph=True, dynamic=False)
    return model.train()


def build_optimizer(model: nn.Module, settings: TrainingSettings, device: str) -> torch.optim.Optimizer:
    """Return AdamW over the trained parameters."""
    return torch.optim.AdamW(
        list(trainable(model).values()), lr=settings.learning_rate, betas=(0.9, settings.adam_beta2),
        weight_decay=settings.weight_decay, fused=device.startswith("cuda"),
    )  # fmt: skip


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def load_parameters(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Set the trained parameters in place. Raises ValueError where the names are not the model's."""
    mine = trainable(model)
    if mine.keys() != state.keys():
        raise ValueError("the checkpoint holds another LoRA: choose another OUTPUT_DIR")
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(state[name])


def save_lora(model: Any, folder: Path, dtype: torch.dtype, ledger: Ledger) -> None:
    """Write adapter_config.json and adapter_model.safetensors, the weights in `dtype`, the same bytes every time.

    Raises:
        OSError: they cannot be written.
    """
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = {key: value.to("cpu", dtype).contiguous() for key, value in get_peft_model_state_dict(model).items()}
    with ledger.write(folder / WEIGHTS_NAME) as partial:
        try:
            save_file(state, partial, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk shows as this
            raise OSError(f"{folder / WEIGHTS_NAME} cannot be written ({error})") from error
    config = model.peft_config["default"].to_dict() | {"inference_mode": True}
    # PEFT's own save_pretrained writes sets in an order that changes from process to process.
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    ledger.write_bytes(folder / CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True).encode())
