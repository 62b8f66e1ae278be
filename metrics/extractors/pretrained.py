"""Pretrained networks for transformers: found in a local folder, in the hub's cache, or on the hub."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path
from urllib.parse import urlparse

from metrics.base import MetricUnavailable

WEIGHTS_FILE = "model.safetensors"


def find_folder(source: str, variable: str) -> Path:
    """Return the folder with a model's config.json and weights; a hub id is downloaded where the hub can be reached.

    Raises:
        MetricUnavailable: it was not found; the text says what to set `variable` to.
    """
    found, reason = _find(source)
    if found is None:
        raise MetricUnavailable(
            f"{source} was not found ({reason}): set {variable} to a folder with its config.json and {WEIGHTS_FILE}"
        )
    return found


@cache  # a hub that cannot be reached is not asked again by the next metric
def _find(source: str) -> tuple[Path | None, str]:
    folder = Path(source).expanduser()
    if folder.is_dir():
        missing = [name for name in ("config.json", WEIGHTS_FILE) if not (folder / name).is_file()]
        return (None, f"the folder holds no {missing[0]}") if missing else (folder, "")
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = ["*.json", "*.txt", WEIGHTS_FILE]
    try:
        kept = Path(snapshot_download(source, allow_patterns=wanted, local_files_only=True))
        if (kept / WEIGHTS_FILE).is_file():
            return kept, ""
    except (HFValidationError, OSError):
        pass  # not in the cache
    try:
        socket.getaddrinfo(urlparse(ENDPOINT).hostname, None)  # at once, where a download would try for half a minute
        return Path(snapshot_download(source, allow_patterns=wanted)), ""
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        return None, f"no local folder, and the hub: {' '.join(str(error).split())[:120]}"
