"""ImageNet's class names, and which of them is nearest to a caption."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from files.caches import open_cache
from files.downloads import FirstOf, HubFiles, show_bar
from files.opening import from_pretrained
from files.records import read_record, write_record

if TYPE_CHECKING:
    from torch import Tensor

TEXTS_PER_BATCH = 256
ANSWERS = "nearest_classes"
DEFAULT_CLIP = "openai/clip-vit-base-patch32"


def imagenet_class_names() -> tuple[str, ...]:
    """Return the 1000 class names in the order of the ids."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def nearest_classes(
    captions: Sequence[str], class_names: Sequence[str], clip: str, device: str, cache: Path
) -> list[int]:
    """Return for each caption the class whose name's CLIP text features are nearest to the caption's by cosine.

    The answer is kept in `cache` under the digest of all that it depends on.

    Raises:
        OSError: CLIP is neither in a folder nor on the hub.
    """
    asked = json.dumps([clip, list(class_names), list(captions)])
    question = hashlib.sha256(asked.encode()).hexdigest()
    file = cache / ANSWERS / f"{question[:32]}.json"
    if (kept := _read_labels(file, question, len(captions), len(class_names))) is not None:
        return kept
    texts = sorted(set(captions))
    features = text_features([f"a photo of a {name}" for name in class_names] + texts, clip, device)
    classes_KD, texts_ND = features[: len(class_names)], features[len(class_names) :]
    nearest = dict(zip(texts, (texts_ND @ classes_KD.T).argmax(dim=1).tolist(), strict=True))
    labels = [int(nearest[caption]) for caption in captions]
    try:
        open_cache(cache)
        write_record(file, {"question": question, "labels": labels}, sync=False)
    except OSError as error:
        print(f"WARNING: the classes of the captions are not kept for the next run: {error}", file=sys.stderr)
    return labels


def _read_labels(file: Path, question: str, count: int, classes: int) -> list[int] | None:
    """Return the labels that `file` keeps; None where there are none, or where they are damaged, which stderr tells."""
    try:
        record = read_record(file)
        labels = record["labels"]
        if record["question"] != question:
            raise ValueError("it was written for other prompts or classes")
        if not isinstance(labels, list) or len(labels) != count:
            raise ValueError(f"expected {count} labels")
        if not all(type(label) is int and 0 <= label < classes for label in labels):
            raise ValueError(f"a label is not in 0..{classes - 1}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        print(f"{file} is damaged ({error}); choosing the classes again", file=sys.stderr)
        return None
    return labels


def hub_clip(clip: str) -> FirstOf:
    """Return what is needed of CLIP's repository; some were published before there was safetensors."""
    size = 605_000_000 if clip == DEFAULT_CLIP else None
    kinds = ("*.safetensors", "pytorch_model.bin")
    files = [HubFiles(f"VAR's CLIP: {clip}", clip, ("*.json", "*.txt", kind), size_bytes=size) for kind in kinds]
    return FirstOf(files[0].what, tuple(files))


def kept_answers(cache: Path) -> bool:
    """Return whether classes were chosen before, so that CLIP may not be needed again."""
    return any((cache / ANSWERS).glob("*.json"))


def _find_clip(clip: str) -> Path:
    """Return the folder that holds CLIP. Raises OSError where it is neither here nor on the hub."""
    folder = Path(clip).expanduser()
    return folder if folder.is_dir() else hub_clip(clip).fetch(show_bar)


def text_features(texts: Sequence[str], clip: str, device: str) -> Tensor:
    """Return `features_ND`, CLIP's projected text features of length 1, float32."""
    import torch
    from transformers import AutoTokenizer, CLIPModel

    try:
        folder = _find_clip(clip)
        tokenizer = from_pretrained(AutoTokenizer, folder, local_files_only=True)
        model = from_pretrained(CLIPModel, folder, local_files_only=True, dtype=torch.float32).to(device).eval()
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise OSError(
            f"VAR_CLIP={clip}: CLIP, which finds the class nearest to each prompt, cannot be loaded ({reason}); "
            "set VAR_CLIP to a folder that holds it, or choose classes without it: VAR_CLASSES=1,207,980"
        ) from error
    batches = []
    with torch.inference_mode():
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            chunk = list(texts[start : start + TEXTS_PER_BATCH])
            tokens = tokenizer(chunk, padding=True, truncation=True, max_length=77, return_tensors="pt").to(device)
            # Not get_text_features: what that returns differs between releases of transformers.
            projected_ND = model.text_projection(model.text_model(**tokens).pooler_output)
            batches.append(torch.nn.functional.normalize(projected_ND, dim=-1).cpu())
    return torch.cat(batches)
