"""Why a column has no energy, in the few words that a cell of the table has room for."""

from __future__ import annotations

# A cell with a reason of this length, "n/a (no permission)", makes no column of the table wider.
LONGEST_SHORT_REASON = 14
# How a reason begins or ends that the energy pass may have, and its words in a cell; the footer has all of it.
_BEGINNINGS = {
    "other processes on the card": "shared card",
    "nvidia-ml-py is not installed": "no pynvml",
    "NVML does not list this card": "not in NVML",
    "NVML:": "NVML failed",
    "no NVML library": "no NVML",
    "no NVIDIA driver": "no driver",
    "the counter of energy stands still": "counter stuck",
    "the counter of energy ran backwards": "counter broken",
    "its process ": "process died",
    "components on several GPUs": "several GPUs",
}
_ENDS = {
    "no permission": "no permission", "not supported": "not supported", "not in this driver": "old driver",
    "no value": "no value",
}  # fmt: skip


def shorten_reason(reason: str) -> str:
    """Return a reason that fits a cell; "see footer" for one that has no short words."""
    if len(reason) <= LONGEST_SHORT_REASON:
        return reason
    found = [words for start, words in _BEGINNINGS.items() if reason.startswith(start)]
    found += [words for end, words in _ENDS.items() if reason.endswith(end)]
    return found[0] if found else "see footer"
