"""What PixArt need not compute again and again: the empty prompt's encoding, and cross-attention's keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from models.pipelines.compiled import Extracted, FamilyModifier

# A tensor (layers, 2, prompts, tokens, channels): each layer's keys and values.
Conditions = torch.Tensor


class KeptConditionProcessor:
    """Attention of one layer to its ready keys and values, which come in the place of the caption's encoding."""

    def __init__(self, layer: int) -> None:
        self.layer = layer

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Conditions,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the layer's answer, `(prompts, patches, channels)`."""
        key_BTC, value_BTC = encoder_hidden_states[self.layer].unbind(0)
        batch, tokens, _ = key_BTC.shape
        if attention_mask is not None:
            bias = attn.prepare_attention_mask(attention_mask, tokens, batch)
            attention_mask = bias.view(batch, attn.heads, -1, tokens)
        query, key, value = (
            x_BLC.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for x_BLC in (attn.to_q(hidden_states), key_BTC, value_BTC)
        )
        answer = functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        projected: torch.Tensor = attn.to_out[0](answer.transpose(1, 2).flatten(2).to(query.dtype))
        return projected.div(attn.rescale_output_factor)


def split_conditions(transformer: Any) -> Callable[[torch.Tensor], Conditions]:
    """Take the prompt's part out of a PixArt transformer in place, and return it as a function of the encoding.

    The transformer then expects that function's answer as its `encoder_hidden_states`.

    Raises:
        ValueError: it is another network.
    """
    if type(transformer).__name__ != "PixArtTransformer2DModel":
        raise ValueError(f"{type(transformer).__name__} has no part for the prompt that can be taken out of its steps")
    caption_projection = transformer.caption_projection
    transformer.caption_projection = None
    layers = [block.attn2 for block in transformer.transformer_blocks]
    for i, attn in enumerate(layers):
        assert not attn.residual_connection
        assert attn.norm_cross is None or not attn.norm_cross
        attn.set_processor(KeptConditionProcessor(i))

    def conditions(encoding_BTE: torch.Tensor) -> Conditions:
        caption_BTC = caption_projection(encoding_BTE)
        return torch.stack([torch.stack((attn.to_k(caption_BTC), attn.to_v(caption_BTC))) for attn in layers])

    return conditions


def keep_conditions(
    forward: Callable[..., Any], conditions: Callable[[torch.Tensor], Conditions]
) -> Callable[..., Any]:
    """Return a transformer's forward that works the conditions out anew only for another encoding."""
    kept: list[tuple[torch.Tensor, Conditions]] = []

    def call(hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **settings: Any) -> Any:
        # The very same tensor stands for the same image: the pipeline makes a new one for each call.
        if not kept or kept[0][0] is not encoder_hidden_states:
            kept[:] = [(encoder_hidden_states, conditions(encoder_hidden_states))]
        return forward(hidden_states, encoder_hidden_states=kept[0][1], **settings)

    return call


def encode_empty_prompt_once(pipeline: Any) -> None:
    """Keep the negative prompt's encoding where it is the empty one: it is the same for every image.

    Raises:
        ValueError: it is another pipeline.
    """
    encode = pipeline.encode_prompt
    if "prompt_attention_mask" not in inspect.signature(encode).parameters:
        raise ValueError(f"{type(pipeline).__name__} does not encode its empty prompt as PixArt does")
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def encode_prompt(
        prompt: Any, do_classifier_free_guidance: bool = True, negative_prompt: str = "", **settings: Any
    ) -> tuple[Any, Any, Any, Any]:
        if not do_classifier_free_guidance or negative_prompt != "":
            answer: tuple[Any, Any, Any, Any] = encode(
                prompt, do_classifier_free_guidance, negative_prompt=negative_prompt, **settings
            )
            return answer
        if not kept:
            kept.append(encode([""], False, **settings)[:2])
        embeds, mask = encode(prompt, False, **settings)[:2]
        # Expanded, not copied: the pipeline joins them with the prompt's own.
        return embeds, mask, kept[0][0].expand_as(embeds), kept[0][1].expand_as(mask)

    pipeline.encode_prompt = encode_prompt


MODIFIERS = {
    "empty": FamilyModifier("the empty prompt is encoded once, not with every image", encode_empty_prompt_once),
    "once": FamilyModifier(
        "cross-attention's keys and values are computed once an image; for whole compilation",
        lambda pipeline: Extracted(split_conditions(pipeline.transformer), keep_conditions),
    ),
}
