"""How many prompts a pipeline's text encoders do not read to their ends."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.hash_tokenizer import HashTokenizer
from models.pipelines.calls import config_of
from models.pipelines.table import ASKED_LENGTH, PipelineFacts

_ODD_NAMES = {"clip_tokenizer": "text_encoder"}
_UNLIMITED = 100_000  # what tokenizers say that have no limit is far more


def cut_notes(
    pipeline: Any, facts: PipelineFacts, arguments: Mapping[str, object], prompts: Sequence[str]
) -> tuple[str, ...]:
    """Return the footer's notes on prompts that are cut, one for each text encoder that cuts some."""
    notes = []
    for name, tokenizer in _tokenizers(pipeline):
        limit = _limit(pipeline, name, tokenizer, facts, arguments)
        if not limit:
            continue
        lengths = {prompt: _length(pipeline, name, tokenizer, facts, prompt) for prompt in dict.fromkeys(prompts)}
        if cut := sum(lengths[prompt] > limit for prompt in prompts):
            were = "was" if cut == 1 else "were"
            notes.append(f"{cut} of {len(prompts)} prompts {were} cut at {limit} tokens by {name}")
    return tuple(notes)


def _tokenizers(pipeline: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tokenizers by the names of their text encoders."""
    parts = getattr(pipeline, "components", {})
    is_named = any("tokenizer" in name for name in parts)
    for name, part in parts.items():
        if not is_named and name == "processor" and hasattr(part, "tokenizer"):
            name = "tokenizer"
        if "tokenizer" not in name:
            continue
        inner = getattr(part, "tokenizer", None)  # of what also reads images
        tokenizer = inner if callable(inner) else part
        encoder = _ODD_NAMES.get(name) or name.replace("tokenizer", "text_encoder")
        encoder = encoder if encoder in parts else "bert"
        if parts.get(encoder) is None:
            continue  # what reads no prompts, such as a language model that is off
        if callable(tokenizer) and not isinstance(tokenizer, HashTokenizer):
            yield encoder, tokenizer


def _limit(pipeline: Any, name: str, tokenizer: Any, facts: PipelineFacts, arguments: Mapping[str, object]) -> int:
    """Return the most tokens that a text encoder reads, or 0 where that is not known."""
    known = facts.tokens.get(name, config_of(pipeline).get("prompt_max_tokens"))
    if known is not None and known != ASKED_LENGTH:
        return known
    own = getattr(tokenizer, "model_max_length", _UNLIMITED)
    own = own if isinstance(own, int) and own < _UNLIMITED else 0
    if known is None and "CLIP" in type(tokenizer).__name__:
        return own
    taken = inspect.signature(type(pipeline).__call__).parameters
    length = "max_sequence_length"
    asked = arguments.get(length, taken[length].default if length in taken else None)
    return asked if isinstance(asked, int) else own


def _length(pipeline: Any, name: str, tokenizer: Any, facts: PipelineFacts, prompt: str) -> int:
    """Return how many tokens a text encoder would read of a prompt and of what its pipeline puts around it."""
    if facts.chat == "prefix":
        prompt = f"{pipeline.system_prompt} <Prompt Start> {prompt}"
    elif facts.chat and name == "text_encoder":
        told = pipeline.tokenizer.apply_chat_template(
            _conversation(pipeline, facts, prompt), tokenize=False, add_generation_prompt=facts.chat == "text"
        )
        return len(tokenizer(told, truncation=False, padding=False)["input_ids"])
    return len(tokenizer(prompt, truncation=False, padding=False)["input_ids"])


def _conversation(pipeline: Any, facts: PipelineFacts, prompt: str) -> list[dict[str, object]]:
    if facts.chat == "text":
        return [{"role": "user", "content": prompt}]
    told = {"system": getattr(pipeline, "system_message", ""), "user": prompt}
    return [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in told.items()]
