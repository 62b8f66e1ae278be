"""ImageNet's class names, and which of them is nearest to a caption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TEXTS_PER_BATCH = 256


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
    file = cache / "nearest_classes" / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
    if file.is_file():
        return [int(label) for label in json.loads(file.read_text(encoding="utf-8"))]
    texts = sorted(set(captions))
    features = text_features([f"a photo of a {name}" for name in class_names] + texts, clip, device)
    classes_KD, texts_ND = features[: len(class_names)], features[len(class_names) :]
    nearest = dict(zip(texts, (texts_ND @ classes_KD.T).argmax(dim=1).tolist(), strict=True))
    labels = [int(nearest[caption]) for caption in captions]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(labels), encoding="utf-8")
    partial.replace(file)
    return labels


def text_features(texts: Sequence[str], clip: str, device: str) -> Tensor:
    """Return `features_ND`, CLIP's projected text features of length 1, float32."""
    import torch
    from transformers import AutoTokenizer, CLIPModel

    try:
        tokenizer = AutoTokenizer.from_pretrained(clip)
        model = CLIPModel.from_pretrained(clip, dtype=torch.float32).to(device).eval()
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise OSError(
            f"VAR_CLIP={clip}: CLIP, which finds the class nearest to each caption, is not there ({reason}); "
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
