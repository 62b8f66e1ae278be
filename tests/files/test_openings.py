"""Files are opened in files/ alone: the tree is looked through for any other way to open, unpickle, run or fetch one.

A new opening fails the test until it goes through `files.opening` or `files.images`, or stands in ALLOWED with the
reason why nothing in a file can run there; an entry of ALLOWED that is gone fails it too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("benchmark", "files", "finetuning", "metrics", "models", "scripts")

# Modules whose import alone says that something is unpickled, unpacked, fetched, run or read by another library.
MODULES = frozenset({
    "aiohttp", "cloudpickle", "ctypes", "dbm", "dill", "fsspec", "ftplib", "h5py", "http", "httpx", "imageio",
    "importlib.machinery", "joblib", "marshal", "pandas", "pickle", "pickletools", "pyarrow", "requests", "runpy",
    "shelve", "smbclient", "tarfile", "tomllib", "torchvision.io", "urllib", "xml", "yaml", "zipfile",
})  # fmt: skip
# Functions by their full name.
FUNCTIONS = frozenset({
    "PIL.Image.open", "builtins.__import__", "builtins.compile", "builtins.eval", "builtins.exec", "code.interact",
    "datasets.load_dataset", "datasets.load_dataset_builder", "datasets.load_from_disk",
    "huggingface_hub.hf_hub_download", "huggingface_hub.hf_hub_url", "huggingface_hub.snapshot_download",
    "importlib.import_module", "importlib.util.module_from_spec", "importlib.util.spec_from_file_location",
    "numpy.fromfile", "numpy.genfromtxt", "numpy.load", "numpy.loadtxt", "numpy.memmap", "numpy.lib.format.open_memmap",
    "numpy.lib.format.read_array", "os.popen", "os.system", "peft.load_peft_weights",
    "safetensors.deserialize", "safetensors.numpy.load", "safetensors.numpy.load_file", "safetensors.safe_open",
    "safetensors.torch.load", "safetensors.torch.load_file", "safetensors.torch.load_model",
    "shutil.unpack_archive", "skimage.io.imread", "subprocess.getoutput", "subprocess.getstatusoutput",
    "torch.classes.load_library", "torch.from_file", "torch.hub.load", "torch.hub.load_state_dict_from_url",
    "torch.jit.load", "torch.load", "torch.ops.load_library", "torch.package.PackageImporter",
    "torch.serialization.load",
})  # fmt: skip
# Methods of any object.
METHODS = frozenset({
    "extractall", "from_pretrained", "from_single_file", "load_adapter", "load_attn_procs", "load_ip_adapter",
    "load_lora_weights", "load_state", "load_textual_inversion", "unsafe_load",
})  # fmt: skip
# Arguments, as (name, value that counts; None: any).
ARGUMENTS = frozenset({
    ("allow_pickle", True), ("custom_pipeline", None), ("shell", True), ("trust_remote_code", None),
    ("weights_only", None),
})  # fmt: skip
# Names as texts, which `getattr` and keyword dictionaries would use.
TEXTS = frozenset({"from_pretrained", "trust_remote_code", "custom_pipeline", "weights_only", "allow_pickle"})

# (file, what is found there): why nothing in a file can run there, and why it is not elsewhere.
ALLOWED: dict[tuple[str, str], str] = {
    ("benchmark/measure/accelerators.py", "ctypes"): "calls the driver's own library by a fixed name",
    ("benchmark/data/sources/hub.py", "datasets.load_dataset"): (
        "reads parquet and other tables in which no code can stand: datasets runs no loading scripts any more"
    ),
    ("benchmark/data/sources/hub.py", "datasets.load_dataset_builder"): "as load_dataset: it lists the tables' files",
    (
        "benchmark/data/sources/hub.py",
        "fsspec",
    ): "reads files of the repository that was named, checked by their address",
    ("benchmark/data/sources/hub.py", "tarfile"): "for the name of an error alone",
    ("benchmark/data/sources/hub.py", "zipfile"): "for the name of an error alone",
    ("benchmark/data/sources/parquet.py", "fsspec"): "opens the shards that the hub lists for the repository, as bytes",
    ("benchmark/data/sources/parquet.py", "pyarrow"): (
        "parquet holds values of plain types; pyarrow has no types that are pickled since 21"
    ),
    ("benchmark/ranks/board.py", "pickle"): "packs what ranks of one run tell one another through the launcher's store",
    ("benchmark/ranks/ranks.py", "pickle"): "as board.py: work that rank 0 asks of another rank",
    ("benchmark/run/servers.py", "pickle"): "packs the work that a worker is sent through a pair of sockets",
    ("benchmark/run/worker_server.py", "ctypes"): "calls the C library's prctl",
    ("benchmark/run/worker_server.py", "importlib.import_module"): (
        "imports modules that servers.py and the families of models list"
    ),
    ("benchmark/run/worker_server.py", "pickle"): (
        "unpacks the work that the parent has sent through a pair of sockets, which no other process has"
    ),
    ("files/published.py", "http"): "for the name of an error alone",
    ("files/published.py", "urllib"): (
        "fetches the published weights of metrics, whose addresses and digests stand in metrics/needed.py, as bytes"
    ),
    ("files/hub.py", "http"): "for the name of an error alone",
    ("files/hub.py", "huggingface_hub.snapshot_download"): (
        "downloads what was named; what came is opened by files.opening"
    ),
    ("files/hub.py", "urllib"): "asks whether the hub answers at all, and reads nothing of the answer",
    ("files/images.py", "PIL.Image.open"): "the one place: a list of formats, of content that was read before",
    ("files/opening.py", "'from_pretrained'"): "the one place: after the folder was checked",
    ("files/opening.py", "'trust_remote_code'"): "the one place: it is always False",
    ("files/opening.py", "'weights_only'"): "keeps torch's advice to set it out of messages",
    ("files/opening.py", "pickle"): "for the name of an error alone",
    ("files/opening.py", "safetensors.safe_open"): "the one place: the format holds tensors alone",
    ("files/opening.py", "safetensors.torch.load_file"): "the one place: the format holds tensors alone",
    ("files/opening.py", "torch.load"): "the one place: with weights_only",
    ("files/opening.py", "weights_only=True"): "the one place: tensors and plain containers",
    ("files/opening.py", "zipfile"): "the one place for .npz: members are read, never unpacked to the disk",
    (
        "finetuning/environment.py",
        "importlib.import_module",
    ): "imports packages of its own table, to see whether they work",
    ("metrics/__init__.py", "importlib.import_module"): "imports the modules of METRICS, a table in that file",
    ("metrics/features.py", "importlib.import_module"): "imports the modules of EXTRACTORS, a table in that file",
    ("scripts/embedded/build_emoji.py", "tarfile"): (
        "reads members of three packages of npm into memory; none is unpacked to the disk"
    ),
}

# Openings inside of libraries that a file from elsewhere can reach: (why each runs nothing, the code that says so).
LIBRARIES: dict[str, tuple[str, str, str]] = {
    "transformers' checkpoints": (
        "transformers.modeling_utils", "weights_only: bool = True", "pytorch_model.bin is read with weights_only",
    ),
    "diffusers' checkpoints": (
        "diffusers.models.model_loading_utils", '{"weights_only": True}', "a .bin is read with weights_only",
    ),
    "diffusers' components": (
        "diffusers.pipelines.pipeline_loading_utils", "library = sys.modules.get(library_name)",
        "a library that an index names is not imported; files.model_folders refuses it before",
    ),
    "datasets' tar files": (
        "datasets.packaged_modules.webdataset.webdataset", "weights_only=True", "tensors in them with weights_only",
    ),
    "torchmetrics' LPIPS": (
        "torchmetrics.functional.image.lpips", 'torch.load(model_path, map_location="cpu")',
        "the package's own file, which torch reads with weights_only by default since 2.6",
    ),
    "transformers' chat templates": (
        "transformers.utils.chat_template_utils", "ImmutableSandboxedEnvironment(",
        "nothing here calls one, and they run in jinja's sandbox",
    ),
    "torch-fidelity's Inception": (
        "torch_fidelity.feature_extractor_inceptionv3",
        "torch.load(feature_extractor_weights_path, weights_only=False)",
        "metrics.extractors.inception gives it bytes that it saved itself, from tensors read with weights_only",
    ),
}  # fmt: skip


def openings(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each opening in a Python file by name, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = _imported(tree)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in _modules_of(node):
                if hidden := _listed(name):
                    yield hidden, node.lineno
        if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
            full = _full_name(node, known)
            if full in FUNCTIONS:
                yield full, node.lineno
            elif isinstance(node, ast.Attribute) and node.attr in METHODS:
                yield f".{node.attr}", node.lineno
        if isinstance(node, ast.keyword) and node.arg is not None:
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            if (node.arg, value) in ARGUMENTS or (node.arg, None) in ARGUMENTS:
                yield f"{node.arg}={ast.unparse(node.value)}", node.value.lineno
        if isinstance(node, ast.Constant) and node.value in TEXTS and id(node) not in docstrings:
            yield repr(node.value), node.lineno


def _imported(tree: ast.AST) -> dict[str, str]:
    """Return what the names of a module stand for that its import statements bind, at any depth."""
    known = {name: f"builtins.{name}" for name in ("__import__", "compile", "eval", "exec")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def _modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []


def _listed(name: str) -> str:
    """Return the entry of MODULES that a name is in, or an empty text."""
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in MODULES), "")


def _full_name(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    if isinstance(node, ast.Attribute):
        before = _full_name(node.value, known)
        return f"{before}.{node.attr}" if before else ""
    return ""


def sources() -> list[Path]:
    return [
        ROOT / "run_inference.py",
        *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))),
    ]


def test_nothing_is_opened_but_in_the_one_place_and_where_it_is_listed_with_a_reason() -> None:
    found: dict[tuple[str, str], list[int]] = {}
    for path in sources():
        for name, line in openings(path):
            found.setdefault((str(path.relative_to(ROOT)), name), []).append(line)
    new = [f"{file}:{lines[0]} {name}" for (file, name), lines in sorted(found.items()) if (file, name) not in ALLOWED]
    assert not new, "open it by files.opening or files.images, or list it with the reason why it is safe"
    gone = sorted(set(ALLOWED) - set(found))
    assert not gone, "take it from the list"
    assert all(len(reason) > 20 for reason in ALLOWED.values())


@pytest.mark.parametrize("what", sorted(LIBRARIES))
def test_a_librarys_own_opening_is_as_the_list_says(what: str) -> None:
    module, code, reason = LIBRARIES[what]
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert code in Path(spec.origin).read_text(encoding="utf-8"), reason


def test_pyarrow_has_no_types_that_are_unpickled() -> None:
    import pyarrow

    assert not hasattr(pyarrow, "PyExtensionType")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import torch\ntorch.load(p)", "torch.load"),
        ("from torch import load as read\nread(p)", "torch.load"),
        ("def f():\n    import numpy as np\n    np.load(p)", "numpy.load"),
        ("import numpy\nnumpy.fromfile(p)", "numpy.fromfile"),
        ("from safetensors.torch import load_file\nload_file(p)", "safetensors.torch.load_file"),
        ("import safetensors\nwith safetensors.safe_open(p, 'pt') as f: pass", "safetensors.safe_open"),
        ("from PIL import Image as Pillow\nPillow.open(p)", "PIL.Image.open"),
        ("import PIL.Image\nPIL.Image.open(p)", "PIL.Image.open"),
        ("import pickle", "pickle"),
        ("from shelve import open", "shelve"),
        ("import yaml.constructor", "yaml"),
        ("from urllib.request import urlopen", "urllib"),
        ("import fsspec.core", "fsspec"),
        ("eval(text)", "builtins.eval"),
        ("run = exec", "builtins.exec"),
        ("T5.from_pretrained(p)", ".from_pretrained"),
        ("load = T5.from_pretrained", ".from_pretrained"),
        ("getattr(T5, 'from_pretrained')(p)", "'from_pretrained'"),
        ("f(trust_remote_code=False)", "trust_remote_code=False"),
        ("f(**{'trust_remote_code': True})", "'trust_remote_code'"),
        ("f(custom_pipeline=x)", "custom_pipeline=x"),
        ("load(p, weights_only=False)", "weights_only=False"),
        ("load(p, allow_pickle=True)", "allow_pickle=True"),
        ("from importlib import import_module\nimport_module(name)", "importlib.import_module"),
        ("import subprocess\nsubprocess.run(line, shell=True)", "shell=True"),
        ("archive.extractall(p)", ".extractall"),
        ("import os\nos.system(line)", "os.system"),
        ("from datasets import load_dataset\nload_dataset(p)", "datasets.load_dataset"),
    ],
)
def test_each_kind_of_opening_is_found(tmp_path: Path, line: str, name: str) -> None:
    (tmp_path / "x.py").write_text(line)
    assert name in [found for found, _ in openings(tmp_path / "x.py")]


@pytest.mark.parametrize(
    "line",
    [
        '"""Calls torch.load and from_pretrained."""',
        "import re\nre.compile(text)",
        "module.compile(fullgraph=True)",
        "network.eval()",
        "from files.opening import from_pretrained\nfrom_pretrained(T5, p)",
        "import subprocess\nsubprocess.run(words, shell=False)",
        "Image = 3\nImage.open",
        "class Settings:\n    compile: bool = False",
    ],
)
def test_what_opens_nothing_is_not_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.py").write_text(line)
    assert list(openings(tmp_path / "x.py")) == []
