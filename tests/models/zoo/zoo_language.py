"""Tiny language models with random weights, and their tokenizers: the text encoders of the newer pipelines."""

from __future__ import annotations

from typing import Any

QWEN_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "initializer_range": 0.5,  # so that other words are other images
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def byte_vocabulary(*specials: str) -> dict[str, int]:
    """Return a vocabulary of every byte, as byte-level tokenizers write them, after the special tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    return {token: i for i, token in enumerate([*specials, *sorted(ByteLevel.alphabet())])}


def qwen_tokenizer() -> Any:
    """Return Qwen's tokenizer with one token a byte."""
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer(
        vocab=byte_vocabulary(*QWEN_SPECIALS),
        merges=[],
        extra_special_tokens=list(QWEN_SPECIALS[1:]),
        model_max_length=8192,
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def piece_vocabulary(*specials: str) -> dict[str, int]:
    """Return a vocabulary of bytes and letters, as tokenizers write them that were made by SentencePiece."""
    digits = [*map(str, range(10)), *LETTERS, *LETTERS.upper(), *" .,:;!?'\"-\n"]
    return {
        token: i
        for i, token in enumerate([*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *digits])
        if token != " "
    }


def gemma_tokenizer() -> Any:
    """Return Gemma's tokenizer with one token a letter."""
    from transformers import GemmaTokenizer

    vocabulary = piece_vocabulary("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    tokenizer = GemmaTokenizer(vocab=_renumbered(vocabulary), merges=[], padding_side="right", model_max_length=8192)
    return _beginning_with("<bos>", tokenizer)


def llama_tokenizer() -> Any:
    """Return Llama's tokenizer with one token a letter, and a chat template."""
    from transformers import LlamaTokenizer

    vocabulary = piece_vocabulary("<unk>", "<s>", "</s>", "<|user|>", "<|end|>", "<|assistant|>", "<img>", "</img>")
    tokenizer = LlamaTokenizer(vocab=_renumbered(vocabulary), merges=[], pad_token="<unk>", model_max_length=8192)
    tokenizer.chat_template = CHAT
    return _beginning_with("<s>", tokenizer)


def _beginning_with(token: str, tokenizer: Any) -> Any:
    """Return the tokenizer with this token before each text, so that the empty one is not empty."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{token} $A",
        pair=f"{token} $A {token} $B",
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token))],
    )
    return tokenizer


def _renumbered(vocabulary: dict[str, int]) -> dict[str, int]:
    return {token: i for i, token in enumerate(vocabulary)}


def plain_tokenizer(*specials: str, padding_side: str = "right", **named: str) -> Any:
    """Return a tokenizer without a class of its own, one token a byte.

    specials: padding, end of text, beginning of text, and more. named: those that a processor knows by name.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(vocab=byte_vocabulary(*specials), merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=specials[0],
        eos_token=specials[1],
        unk_token=specials[1],
        bos_token=specials[2],
        extra_special_tokens=list(specials[3:]),
        model_specific_special_tokens=named,
        padding_side=padding_side,
        model_max_length=8192,
    )
    tokenizer.chat_template = CHAT
    return _beginning_with(specials[2], tokenizer)


def qwen_vl_ids(tokenizer: Any) -> dict[str, int]:
    """Return the numbers of the tokens that stand for images, under the names of the configurations."""
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _ids(tokenizer: Any) -> dict[str, int]:
    return {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 2}


def qwen2_5_vl(tokenizer: Any, **changed: Any) -> Any:
    """Return a Qwen2_5_VLForConditionalGeneration. changed: of the text model."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        **SMALL,
        **_ids(tokenizer),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        **changed,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": text["hidden_size"],
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **qwen_vl_ids(tokenizer))
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen3_vl_config(tokenizer: Any, **changed: Any) -> Any:
    """Return a Qwen3VLConfig. changed: of the text model."""
    from transformers import Qwen3VLConfig

    text = {
        **SMALL,
        **_ids(tokenizer),
        "head_dim": 8,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [1, 1, 2],
            "mrope_interleaved": True,
        },
        **changed,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": text["hidden_size"],
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    }
    return Qwen3VLConfig(text_config=text, vision_config=vision, **qwen_vl_ids(tokenizer))


def qwen3_vl(tokenizer: Any, **changed: Any) -> Any:
    """Return a Qwen3VLForConditionalGeneration. changed: of the text model."""
    from transformers import Qwen3VLForConditionalGeneration

    return Qwen3VLForConditionalGeneration(qwen3_vl_config(tokenizer, **changed)).eval()


def qwen3_config(tokenizer: Any, **changed: Any) -> Any:
    """Return a Qwen3Config."""
    from transformers import Qwen3Config

    return Qwen3Config(**{**SMALL, **_ids(tokenizer), "head_dim": 8, **changed})


def gemma2(tokenizer: Any, **changed: Any) -> Any:
    """Return a Gemma2Model."""
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(**{**SMALL, "vocab_size": len(tokenizer), "head_dim": 8, **changed})
    return Gemma2Model(config).eval()


def qwen_vl_processor(name: str, tokenizer: Any) -> Any:
    """Return a processor of images and text by its class in transformers: Qwen2VLProcessor, Qwen3VLProcessor."""
    import transformers

    videos = {"Qwen3VLProcessor": "Qwen3VLVideoProcessor"}.get(name, "Qwen2VLVideoProcessor")
    return getattr(transformers, name)(
        image_processor=transformers.Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=getattr(transformers, videos)(),
        chat_template=CHAT,
    )


def stirred(network: Any) -> Any:
    """Return the network with random numbers where its class begins with zeros: text and guidance reach its images."""
    import torch

    for weights in network.parameters():
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.3)
    return network.eval()
