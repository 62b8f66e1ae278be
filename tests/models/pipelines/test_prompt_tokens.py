"""Which prompts are counted as cut: by the encoder that reads them, at its own limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.pipelines.facts import FACTS
from models.pipelines.prompt_tokens import cut_notes
from models.pipelines.table import PipelineFacts

PROMPTS = ["one two three four", "one two", "one two three four"]


class Words:
    """A tokenizer whose tokens are words."""

    def __init__(self, most: int = 10**30) -> None:
        self.model_max_length = most

    def __call__(self, text: str, truncation: bool, padding: bool) -> dict[str, list[int]]:
        assert not truncation
        assert not padding
        return {"input_ids": [0] * len(text.split())}


class CLIPWords(Words): ...


class ChatWords(Words):
    """A tokenizer that puts three words around a message of a conversation."""

    def apply_chat_template(self, messages: list[dict[str, Any]], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        assert add_generation_prompt
        return f"user says {messages[0]['content']} end"


class Pipeline:
    def __init__(self, **components: object) -> None:
        self.components = components
        vars(self).update(components)

    def __call__(self, prompt: str, max_sequence_length: int = 3) -> None: ...


def test_clip_cuts_at_its_own_length_and_others_at_that_of_the_call() -> None:
    pipeline = Pipeline(tokenizer=CLIPWords(2), text_encoder=object(), tokenizer_2=Words(100), text_encoder_2=object())
    assert cut_notes(pipeline, PipelineFacts(), {}, PROMPTS) == (
        "2 of 3 prompts were cut at 2 tokens by text_encoder",
        "2 of 3 prompts were cut at 3 tokens by text_encoder_2",
    )
    notes = cut_notes(pipeline, PipelineFacts(), {"max_sequence_length": 4}, PROMPTS)
    assert notes == ("2 of 3 prompts were cut at 2 tokens by text_encoder",)
    assert cut_notes(pipeline, PipelineFacts(tokens={"text_encoder": 0, "text_encoder_2": 9}), {}, PROMPTS) == ()


def test_a_tokenizer_of_what_reads_no_prompts_cuts_none() -> None:
    assert cut_notes(Pipeline(pe_tokenizer=Words(1), pe=object()), PipelineFacts(), {}, PROMPTS) == ()
    assert cut_notes(Pipeline(tokenizer=Words(1), text_encoder=None), PipelineFacts(), {}, PROMPTS) == ()


def test_the_tokenizer_of_a_processor_is_found_and_one_inside_a_tokenizer_is_not_taken_for_it() -> None:
    processor = SimpleNamespace(tokenizer=Words())
    expected = ("2 of 3 prompts were cut at 3 tokens by text_encoder",)
    assert cut_notes(Pipeline(processor=processor, text_encoder=object()), PipelineFacts(), {}, PROMPTS) == expected
    tokenizer = Words()
    tokenizer.tokenizer = object()  # type: ignore[attr-defined]
    assert cut_notes(Pipeline(tokenizer=tokenizer, text_encoder=object()), PipelineFacts(), {}, PROMPTS) == expected


@pytest.mark.parametrize(("most", "is_cut"), [(7, False), (6, True)])
def test_the_words_around_a_prompt_count_where_it_is_a_message(most: int, is_cut: bool) -> None:
    pipeline = Pipeline(tokenizer=ChatWords(), text_encoder=object())
    notes = cut_notes(pipeline, FACTS["ZImagePipeline"], {"max_sequence_length": most}, PROMPTS)
    assert bool(notes) == is_cut


def test_words_of_the_pipeline_before_a_prompt_count() -> None:
    pipeline = Pipeline(tokenizer=Words(), text_encoder=object())
    pipeline.system_prompt = "be good"  # type: ignore[attr-defined]
    facts = FACTS["Lumina2Pipeline"]
    assert cut_notes(pipeline, facts, {"max_sequence_length": 7}, PROMPTS) != ()  # be good <Prompt Start>, and four
    assert cut_notes(pipeline, facts, {"max_sequence_length": 8}, PROMPTS) == ()


def test_a_pipeline_that_configures_its_length_cuts_there() -> None:
    pipeline = Pipeline(tokenizer=Words(), text_encoder=object())
    pipeline.config = {"prompt_max_tokens": 2}  # type: ignore[attr-defined]
    notes = cut_notes(pipeline, FACTS["PRXPixelPipeline"], {}, PROMPTS)
    assert notes == ("2 of 3 prompts were cut at 2 tokens by text_encoder",)
