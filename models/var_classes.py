"""Which class VAR is asked for: nearest to the prompt, the data set's, or taken in turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.base import Request, Runtime

PUBLISHED_CLASSES = 1000  # ImageNet's
CLASS_WAYS = ("auto", "nearest", "dataset")


@dataclass(frozen=True)
class ClassChoice:
    """How requests get their class: `way` is nearest, dataset, index or ids.

    ids: taken in turn by the request's index; all classes where the way is index, none where it is nearest or dataset.
    """

    way: str
    ids: tuple[int, ...] = ()


def choose_classes(classes: str, runtime: Runtime, class_names: tuple[str, ...]) -> ClassChoice:
    """Return how VAR_CLASSES wants classes chosen.

    Raises:
        ValueError: it is none of the ways, an id is no class, or the data set's labels are not the model's classes.
    """
    way = chosen_way(classes, runtime)
    if way == "nearest":
        return ClassChoice("nearest")
    if way == "index":
        return ClassChoice("index", tuple(range(len(class_names))))
    if way == "dataset":
        if runtime.label_names != class_names:
            found = (
                f"{len(runtime.label_names)} labels ({', '.join(runtime.label_names[:3])}, ...)"
                if runtime.label_names
                else "no named labels"
            )
            raise ValueError(
                f"VAR_CLASSES=dataset: the data set has {found}, which are not the model's {len(class_names)} classes "
                f"({', '.join(class_names[:3])}, ...); choose VAR_CLASSES=nearest or a list of ids"
            )
        return ClassChoice("dataset")
    return ClassChoice("ids", class_ids(way, len(class_names)))


def chosen_way(classes: str, runtime: Runtime) -> str:
    """Return what VAR_CLASSES stands for: nearest, dataset, index, or a list of ids."""
    if classes.strip() != "auto":
        return classes.strip()
    if runtime.weights == "tiny":
        return "dataset" if runtime.label_names else "index"
    return "nearest" if runtime.weights == "pretrained" else "index"


def class_ids(classes: str, count: int) -> tuple[int, ...]:
    """Return the ids that VAR_CLASSES lists. Raises ValueError where it lists none, or one that is no class."""
    if not re.fullmatch(r"\s*[0-9]+\s*(,\s*[0-9]+\s*)*", classes):
        raise ValueError(f"VAR_CLASSES={classes}: expected auto, nearest, dataset, or ids like 1,207,980")
    ids = tuple(int(word) for word in classes.split(","))
    if max(ids) >= count:
        raise ValueError(f"VAR_CLASSES={classes}: there is no class {max(ids)}; expected ids in 0..{count - 1}")
    return ids


def give_classes(
    requests: Sequence[Request], choice: ClassChoice, class_names: tuple[str, ...], clip: str, runtime: Runtime
) -> list[Request]:
    """Return the requests with their class in `class_label` and its name as the prompt.

    clip: the hub id or folder of the CLIP that finds the nearest class.

    Raises:
        ValueError: the data set gives a request no class of the model's.
    """
    labels: Sequence[int | None]
    if choice.way == "nearest":
        from models.imagenet import nearest_classes

        prompts = [request.prompt for request in requests]
        labels = nearest_classes(prompts, class_names, clip, runtime.device, runtime.cache)
    elif choice.way == "dataset":
        labels = [request.class_label for request in requests]
    else:
        turns = [choice.ids[request.index % len(choice.ids)] for request in requests]
        labels = [_own_class(request, turn, choice, runtime) for request, turn in zip(requests, turns, strict=True)]
    prepared = []
    for request, label in zip(requests, labels, strict=True):
        if label is None or not 0 <= label < len(class_names):
            raise ValueError(
                f"VAR_CLASSES=dataset: the request {request.prompt!r} has the label {label}; expected one of "
                f"0..{len(class_names) - 1}; choose VAR_CLASSES=nearest or a list of ids"
            )
        prepared.append(replace(request, prompt=class_names[label], class_label=label))
    return prepared


def _own_class(request: Request, turn: int, choice: ClassChoice, runtime: Runtime) -> int:
    """Return a request's class where classes are taken in turn; with embedded weights its own label comes first."""
    label = request.class_label
    has_own = choice.way == "index" and runtime.weights == "tiny" and label is not None and label in choice.ids
    return label if has_own and label is not None else turn


def describe_choice(choice: ClassChoice, runtime: Runtime) -> str:
    """Return the footer's note on the way."""
    if choice.way == "nearest":
        return "conditioned on the class nearest to each prompt, not on the prompt"
    if choice.way == "dataset":
        return "conditioned on the data set's class of each prompt, not on the prompt"
    if choice.way == "index":
        turn = f"on class i modulo {len(choice.ids)} for image i, not on the prompt"
        if runtime.weights != "tiny":
            return f"conditioned {turn}"
        return f"the data set names no classes: conditioned on a prompt's class label, or else {turn}"
    ids = ", ".join(map(str, choice.ids[:5])) + (", ..." if len(choice.ids) > 5 else "")
    return f"conditioned on the classes {ids} in turn, not on the prompt"


def default_class_names(classes: int) -> tuple[str, ...]:
    """Return ImageNet's class names for 1000 classes, numbers for any other count."""
    if classes != PUBLISHED_CLASSES:
        return tuple(f"class {i}" for i in range(classes))
    from models.imagenet import imagenet_class_names

    return imagenet_class_names()
