"""Parts that tiny pipelines share: tokenizers with a vocabulary of letters, text encoders, decoders, safety checker."""

from __future__ import annotations

from typing import Any

LETTERS = [chr(i) for i in range(ord("a"), ord("z") + 1)]
WORDS = ("a", "pink", "blue", "robot", "with", "round", "head", "cat", "tree", "in", "forest", "painting")
PIECES = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), *LETTERS]
CLIP_TOKENS = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]


def clip_tokenizer(length: int = 77) -> Any:
    """Return a CLIPTokenizer that spells words in letters."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(CLIP_TOKENS)},
        merges=[],
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=length,
    )


def t5_tokenizer(length: int = 40) -> Any:
    """Return a T5Tokenizer of a few words and the letters."""
    from transformers import T5Tokenizer

    vocabulary = [(piece, -float(i)) for i, piece in enumerate(PIECES)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=length)


def bert_tokenizer(length: int = 77) -> Any:
    """Return a BertTokenizer that spells words in letters."""
    from transformers import BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=length)


def xlm_roberta_tokenizer(length: int = 77) -> Any:
    """Return an XLMRobertaTokenizer of a few words and the letters."""
    from transformers import XLMRobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*special, *PIECES[3:], "<mask>"]
    return XLMRobertaTokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], model_max_length=length)


def gpt2_tokenizer() -> Any:
    """Return a GPT2Tokenizer of the letters."""
    from transformers import GPT2Tokenizer

    tokens = ["<|endoftext|>", "Ġ", *LETTERS]
    return GPT2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def clip_config(width: int = 16, projection: int = 16, **changes: Any) -> Any:
    """Return the configuration of a CLIP text encoder for `clip_tokenizer`."""
    from transformers import CLIPTextConfig

    fields = {
        "vocab_size": len(CLIP_TOKENS),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "hidden_size": width,
        "projection_dim": projection,
    }
    return CLIPTextConfig(**fields | changes)


def clip_text(width: int = 16, **changes: Any) -> Any:
    """Return a CLIPTextModel."""
    from transformers import CLIPTextModel

    return CLIPTextModel(clip_config(width, **changes)).eval()


def clip_text_projected(width: int = 16, projection: int = 16, **changes: Any) -> Any:
    """Return a CLIPTextModelWithProjection."""
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(clip_config(width, projection, **changes)).eval()


def clip_vision(projection: int = 16) -> Any:
    """Return a CLIPVisionModelWithProjection of 32 px."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_size=16,
        projection_dim=projection,
        image_size=32,
        patch_size=8,
    )
    return CLIPVisionModelWithProjection(config).eval()


def t5_encoder(width: int = 32) -> Any:
    """Return a T5EncoderModel for `t5_tokenizer`."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(PIECES),
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def kl_decoder(channels: int = 4, blocks: int = 3, **changes: Any) -> Any:
    """Return an AutoencoderKL that makes 2**(blocks - 1) pixels of each side of its latents."""
    from diffusers import AutoencoderKL

    fields: dict[str, Any] = {
        "sample_size": 32,
        "latent_channels": channels,
        "block_out_channels": (16,) * blocks,
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "force_upcast": False,
    }
    return AutoencoderKL(**fields | changes).eval()


def flow_decoder(channels: int = 4) -> Any:
    """Return an AutoencoderKL as pipelines of flow matching have it: no quantization layers, latents are shifted."""
    return kl_decoder(channels, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5)


def safety_checker() -> Any:
    """Return a StableDiffusionSafetyChecker that finds every image unsafe: the pipeline makes it black."""
    import torch
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    config = CLIPConfig(
        text_config=clip_config().to_dict(),
        vision_config=clip_vision().config.to_dict(),
        projection_dim=16,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2.0)  # below any cosine
        checker.special_care_embeds_weights.fill_(-2.0)
    return checker


def clip_processor() -> Any:
    """Return the image processor that goes with `clip_vision` and `safety_checker`."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(crop_size=32, size=32)
