"""Trains the tokenizers of the embedded SDXL and PixArt on the captions of robots and emoji.

    python -m scripts.embedded.build_tokenizers

Trained once and shipped: training again may give other ids, which the shipped networks would not understand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.data.sources.emoji import Emoji
from metrics.robots.grammar import load_grammar
from scripts.embedded.job import open_parser

TOKENS = 40  # the longest robot caption has 33
CLIP_VOCABULARY = 2300
T5_VOCABULARY = 1400
ROBOT_CAPTIONS = 20_000
WHOLE_WORD_SCORE = -1.0


def read_captions(assets: Path, seed: int = 0) -> Iterator[str]:
    """Yield the captions that the tokenizers learn from, all lower case: random robots, then all emoji."""
    grammar = load_grammar(assets)
    chosen = random.Random(seed)
    for _ in range(ROBOT_CAPTIONS):
        yield grammar.caption([chosen.randrange(size) for size in grammar.sizes]).lower()
    emoji = Emoji(assets)
    for row in range(len(emoji)):
        yield emoji.caption(row).lower()


def train_clip_tokenizer(assets: Path) -> Any:
    """Return a CLIPTokenizer with ids 0 for the start, 1 for the end and for padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    start, end = "<|startoftext|>", "<|endoftext|>"
    # The class's own normaliser and splitting, so that what is learnt is what it will split.
    backend = CLIPTokenizer(vocab={start: 0, end: 1}, merges=[]).backend_tokenizer
    learning = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=end))
    learning.normalizer, learning.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=CLIP_VOCABULARY,
        special_tokens=[start, end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learning.train_from_iterator(read_captions(assets), trainer)
    merges = _model_state(learning)["merges"]
    return CLIPTokenizer(vocab=learning.get_vocab(), merges=[tuple(pair) for pair in merges], model_max_length=TOKENS)


def train_t5_tokenizer(assets: Path) -> Any:
    """Return a T5Tokenizer with ids 0 for padding, 1 for the end, 2 for what is unknown."""
    import io

    import sentencepiece
    from transformers import T5Tokenizer

    learnt = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=read_captions(assets),
        model_writer=learnt,
        model_type="unigram",
        vocab_size=T5_VOCABULARY,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=learnt.getvalue())
    vocabulary = {model.id_to_piece(number): model.get_score(number) for number in range(len(model))}
    # The learner likes to split even words that stand in every caption: the robots' words are pieces as they are.
    words = {
        word.strip(",") for phrases in load_grammar(assets).phrases.values() for p in phrases for word in p.split()
    }
    for word in sorted({word.lower() for word in words} | {"with", "and"}):
        vocabulary["▁" + word] = WHOLE_WORD_SCORE
    return T5Tokenizer(vocab=list(vocabulary.items()), extra_ids=0, model_max_length=TOKENS)


def _model_state(tokenizer: Any) -> dict[str, Any]:
    import json

    state: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return state


def _save(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer, its vocabulary without the spaces that more than double it: assets ship."""
    import json

    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    parser = open_parser(__doc__)
    assets: Path = parser.parse_args().assets
    clip = train_clip_tokenizer(assets)
    for name in ("tokenizer", "tokenizer_2"):
        _save(clip, assets / "sdxl" / name)
    _save(train_t5_tokenizer(assets), assets / "pixart" / "tokenizer")


if __name__ == "__main__":
    main()
