"""Which setting a variable that is none was probably meant to be: SKIP_SDLX would silently run SDXL.

Variables of other programs must pass, so a rule only holds names against a setting that have its words, or nearly so.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

ALIKE = 0.85
FEWEST_LETTERS = 9  # of a setting that a name as a whole may be alike to
# Words that mean one of ours.
WORDS = {
    "N": "NUM", "NUMBER": "NUM", "NR": "NUM", "IMG": "IMAGE", "SZ": "SIZE", "OUT": "OUTPUT", "DIRECTORY": "DIR",
    "FOLDER": "DIR", "REF": "REFERENCE", "REFS": "REFERENCE",
}  # fmt: skip
# What a family's option is called elsewhere: the first of a group that the family has is meant.
OPTION_WORDS = (
    ("guidance", "cfg", "guidance_scale", "cfg_scale"),
    ("steps", "num_steps", "n_steps", "inference_steps", "num_inference_steps", "sampling_steps"),
    ("lora", "lora_path", "lora_dir", "adapter"),
    ("lora_scale", "lora_strength", "lora_weight", "adapter_scale"),
    ("tau", "temperature"),
)
# What other tools call settings of ours.
USUAL_NAMES = {
    "OUTDIR": "OUTPUT_DIR", "OUTPUTDIRECTORY": "OUTPUT_DIR", "OUTPUTFOLDER": "OUTPUT_DIR", "NSAMPLES": "NUM_SAMPLES",
    "NUM_IMAGES": "NUM_SAMPLES", "N_IMAGES": "NUM_SAMPLES", "IMGSIZE": "IMAGE_SIZE", "BATCHSZ": "BATCH_SIZE",
    "NUM_INFERENCE_STEPS": "SDXL_STEPS, PIXART_STEPS or another model's", "GUIDANCE_SCALE": "a model's _GUIDANCE",
    "CFG_SCALE": "a model's _CFG or _GUIDANCE",
}  # fmt: skip
# Variables of other programs that come near: of an embedding server called Infinity, and a password.
OTHERS = frozenset({"INFINITY_MODEL_ID", "PASS"})


class NearMisses:
    """Holds names against the settings. `switchable`: the keys of the models that have SKIP_ and RUN_ variables."""

    def __init__(self, known: Collection[str], prefixes: Collection[str], switchable: Collection[str]) -> None:
        """Take the settings' names and the prefixes of those that belong to a model: "SDXL"."""
        self._known = sorted(known)
        self._switchable = sorted(switchable)
        self._spellings = {_canonical(name): name for name in self._known}
        for spelling, name in (*_synonyms(known, prefixes), *USUAL_NAMES.items()):
            self._spellings.setdefault(_canonical(spelling), name)

    def meant_by(self, name: str) -> str:
        """Return the setting that a variable of this name was probably meant to be, or nothing."""
        if name in self._known or name.startswith("_") or name.upper() in OTHERS:
            return ""
        words = _words(name)
        return (
            self._spellings.get("".join(words), "")
            or self._switch(words)
            or next((known for known in self._known if _is_slip(words, _words(known))), "")
            or next((known for known in self._known if _is_slip(name.upper().split("_"), known.split("_"))), "")
            or self._alike(name.upper())
        )

    def _switch(self, words: list[str]) -> str:
        """Return the switch of a model that more than its key is named in: SKIP_INFINITY_2B."""
        if len(words) < 2 or words[0] not in ("SKIP", "RUN"):
            return ""
        return next((f"{words[0]}_{key}" for key in self._switchable if _is_word_slip(words[1], key, True)), "")

    def _alike(self, name: str) -> str:
        if "_" not in name:
            return ""
        first = name.partition("_")[0]
        nearby = [known for known in self._known if known.startswith(f"{first}_") and len(known) >= FEWEST_LETTERS]
        return next(iter(difflib.get_close_matches(name, nearby, n=1, cutoff=ALIKE)), "")


def _synonyms(known: Collection[str], prefixes: Collection[str]) -> Iterator[tuple[str, str]]:
    for prefix in prefixes:
        for group in OPTION_WORDS:
            meant = next((name for word in group if (name := f"{prefix}_{word}".upper()) in known), None)
            if meant is not None:
                yield from ((f"{prefix}_{word}".upper(), meant) for word in group)


def _words(name: str) -> list[str]:
    """Return a name's words in capitals, without plurals, each as we call it."""
    words = [word for word in name.upper().replace("-", "_").split("_") if word]
    return [_singular(WORDS.get(word, word)) for word in words]


def _canonical(name: str) -> str:
    return "".join(_words(name))


def _singular(word: str) -> str:
    if word.endswith("SSES"):
        return word[:-2]
    return word[:-1] if len(word) >= 3 and word.endswith("S") and not word.endswith("SS") else word


def _is_slip(words: list[str], meant: list[str]) -> bool:
    """Return whether one word is mistyped and all others are the same; where words were run together, as a whole."""
    if len(words) != len(meant):
        whole, right = "".join(words), "".join(meant)
        return len(right) >= 8 and 1 in (len(words), len(meant)) and _is_word_slip(whole, right, True)
    wrong = [
        (place, word, right) for place, (word, right) in enumerate(zip(words, meant, strict=True)) if word != right
    ]
    if len(wrong) != 1:
        return False
    place, word, right = wrong[0]
    return _is_word_slip(word, right, place == 0, alone=len(words) == 1)


def _is_word_slip(word: str, meant: str, first: bool, alone: bool = False) -> bool:
    """Return whether `word` is `meant` but for one slip: two letters swapped, one too many, one missing, one wrong.

    Short words are too near to others (SPEED to SEED), and so are words with another first letter (NODE to MODE):
    of these, only letters that are swapped or doubled are looked at.
    """
    if word == meant:
        return True
    if word[:1] != meant[:1] or len(meant) < 3:
        return False
    if any(word == meant[:place] + meant[place] + meant[place:] for place in range(len(meant))):
        return True
    strict = 2 if alone else 1 if first else 0
    if len(word) == len(meant):
        wrong = [place for place, (one, other) in enumerate(zip(word, meant, strict=True)) if one != other]
        swapped = len(wrong) == 2 and wrong[1] == wrong[0] + 1 and sorted(word) == sorted(meant)
        return swapped or (len(wrong) == 1 and len(meant) >= 5 + strict)
    shorter, longer = sorted((word, meant), key=len)
    if len(longer) != len(shorter) + 1 or len(meant) < 4 + strict:
        return False
    return any(longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer)))
