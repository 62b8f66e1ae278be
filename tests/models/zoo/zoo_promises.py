"""What holds for each pipeline of the zoo that the program runs, as one test class, which files of tests share out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from zoo_deprecated import published_modules
from zoo_entries import LONG, REQUESTS, Entry
from zoo_programs import flags, images_of, shares

import run_inference
from models import diffusers_hub
from models.base import ImageGenerator, Request, Runtime


@dataclass(frozen=True)
class Tiny:
    """A pipeline of the zoo in its folder, and as the program loads it in float32."""

    name: str
    entry: Entry
    folder: Path
    loaded: ImageGenerator


def load(entry: Entry, folder: Path, dtype: str = "float32", **options: object) -> ImageGenerator:
    """Load a pipeline as the program does, with its entry's options but for those given."""
    runtime = Runtime("pretrained", "cpu", dtype, entry.asked, folder / "assets", folder / "cache")
    options = {"id": str(folder), **entry.options, **options}
    return diffusers_hub.FAMILY.load(diffusers_hub.Options(**options), runtime)


def own_images(entry: Entry, folder: Path) -> np.ndarray:
    """Return `images_BHWC` of REQUESTS: what the pipeline gives somebody who calls it as its class documents."""
    from diffusers import DiffusionPipeline

    with published_modules(folder):
        pipeline = DiffusionPipeline.from_pretrained(folder, **entry.load)
    pipeline.set_progress_bar_config(disable=True)
    prompts = [request.prompt for request in REQUESTS]
    generators = [torch.Generator("cpu").manual_seed(request.seed) for request in REQUESTS]

    def images(prompt: object, generator: object) -> list[Any]:
        output = pipeline(prompt=prompt, generator=generator, output_type="pil", return_dict=False, **entry.call)
        return output if isinstance(output, list) else output[0]

    with torch.inference_mode():
        if entry.one_at_a_time:
            made = [images(*pair)[0] for pair in zip(prompts, generators, strict=True)]
        else:
            made = images(prompts, generators)
    return np.stack([np.asarray(image.convert("RGB")) for image in made])


_REMEMBERED: dict[Path, np.ndarray] = {}


def remembered_images(entry: Entry, folder: Path) -> np.ndarray:
    """Return `own_images`, made once a folder."""
    if folder not in _REMEMBERED:
        _REMEMBERED[folder] = own_images(entry, folder)
    return _REMEMBERED[folder]


def bytes_of(images_BCHW: torch.Tensor) -> np.ndarray:
    """Return `images_BHWC`, uint8."""
    assert images_BCHW.dtype == torch.uint8
    return images_BCHW.permute(0, 2, 3, 1).cpu().numpy()


def levels_apart(loaded: ImageGenerator) -> int:
    """Return how far images of a batch of two are from the same images made alone, at most, in levels of 255."""
    together = bytes_of(loaded.generate(REQUESTS)).astype(int)
    alone = np.concatenate([bytes_of(loaded.generate([request])) for request in REQUESTS]).astype(int)
    return int(np.abs(together - alone).max())


class ZooPromises:
    """Each test runs for each of `entries`; a subclass in a file of tests names its share of the zoo."""

    entries: ClassVar[Mapping[str, Entry]] = {}

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "tiny" in metafunc.fixturenames:
            metafunc.parametrize("tiny", cls.entries.items(), ids=list(cls.entries), indirect=True, scope="class")

    def test_images_are_the_pipelines_own(self, tiny: Tiny) -> None:
        images_BHWC = bytes_of(tiny.loaded.generate(REQUESTS))
        assert images_BHWC.shape == (2, *tiny.entry.size, 3)
        assert tiny.loaded.image_size == max(tiny.entry.size)
        assert (images_BHWC[0] != images_BHWC[1]).any()
        np.testing.assert_array_equal(images_BHWC, remembered_images(tiny.entry, tiny.folder))

    def test_guidance_changes_the_images_or_is_told(self, tiny: Tiny) -> None:
        guided = load(tiny.entry, tiny.folder, guidance=2.5)
        changed = (bytes_of(guided.generate(REQUESTS[:1])) != bytes_of(tiny.loaded.generate(REQUESTS[:1]))).any()
        if tiny.entry.guidance:
            assert changed
        else:
            assert not changed
            assert any("guidance" in note for note in guided.notes), guided.notes

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_images_do_not_depend_on_the_batch_or_it_is_told(self, tiny: Tiny, dtype: str) -> None:
        if dtype in tiny.entry.refused:
            with pytest.raises(ValueError, match=f"does not run in {dtype}: set DTYPE=float32"):
                load(tiny.entry, tiny.folder, dtype)
            return
        loaded = tiny.loaded if dtype == "float32" else load(tiny.entry, tiny.folder, dtype)
        apart = levels_apart(loaded)
        is_told = any("batch size" in note for note in loaded.notes)
        assert is_told == tiny.entry.batch_is_told, loaded.notes
        assert is_told or apart <= tiny.entry.levels[dtype], f"{apart} levels"

    def test_long_prompt_in_a_batch_leaves_the_others_alone(self, tiny: Tiny) -> None:
        requests = tiny.loaded.prepare([REQUESTS[0], Request(1, LONG, 1)])
        if tiny.entry.refuses_long:
            with pytest.raises(ValueError, match=tiny.entry.refuses_long):
                tiny.loaded.generate(requests)
            return
        images_BHWC = bytes_of(tiny.loaded.generate(requests)).astype(int)
        apart = np.abs(images_BHWC[0] - remembered_images(tiny.entry, tiny.folder)[0]).max()
        assert tiny.entry.batch_is_told or apart <= tiny.entry.levels["float32"], f"{apart} levels"

    def test_program_makes_the_same_images(
        self, zoo_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for place, names in enumerate(shares(self.entries)):
            folders = {name: zoo_folder(name) for name in names}
            output = tmp_path / str(place)
            status = run_inference.main(flags(folders.values(), self.entries[names[0]], output))
            assert status == 0, capsys.readouterr()
            for name, folder in folders.items():
                expected = remembered_images(self.entries[name], folder)
                np.testing.assert_array_equal(images_of(output, name), expected, err_msg=name)
