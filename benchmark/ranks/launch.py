"""How a launcher started this process: its rank, its host's other ranks, and the GPU that is its own. Imports no torch.

Source: the environment variables that torchrun documents ("Environment Variables"); accelerate launch sets the same.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from benchmark.measure.accelerators import count_gpus

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Of a launcher's variables, what libraries would take for an invitation to join the others.
VARIABLES = (*_NEEDED, "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME")


@dataclass(frozen=True)
class Launch:
    """One process of a launched run. ranks: of all hosts; local_*: of this launcher; node: the launcher's number.

    address, port: of the launcher's store. attempt: how often the launcher has started the ranks again.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1
    node: int = 0
    address: str = ""
    port: int = 0
    attempt: int = 0

    @property
    def is_alone(self) -> bool:
        return self.ranks == 1

    @property
    def first_of_node(self) -> int:
        """The lowest rank of this launcher."""
        return self.rank - self.local_rank

    @property
    def node_ranks(self) -> range:
        """The ranks of this launcher."""
        return range(self.first_of_node, self.first_of_node + self.local_ranks)

    @property
    def host(self) -> str:
        """The name of the machine; with the launcher's number, since one machine may have several."""
        return socket.gethostname() if self.node == 0 else f"{socket.gethostname()}#{self.node}"

    @property
    def name(self) -> str:
        """How messages call this process: "rank 3 on gpu-7"."""
        return f"rank {self.rank} on {self.host}"


def is_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a launcher started this process; RANK alone may be the rank of a LoRA."""
    return bool(environment.get("WORLD_SIZE"))


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is the one that speaks, of those that a launcher started."""
    return not is_launched(environment) or environment.get("RANK", "0") == "0"


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return how this process was started; alone, where no launcher says otherwise.

    Raises:
        ValueError: the launcher's variables contradict one another, or one of them is missing; one line.
    """
    if not is_launched(environment):
        return Launch()
    lacking = [name for name in _NEEDED if not environment.get(name)]
    if lacking and environment.get("WORLD_SIZE") == "1":
        return Launch()
    if lacking:
        raise ValueError(
            f"WORLD_SIZE={environment['WORLD_SIZE']} without {lacking[0]}: start the run with torchrun or accelerate "
            "launch, which set both, or unset WORLD_SIZE for one process"
        )
    numbers = {name: _number(environment, name) for name in _NEEDED if name != "MASTER_ADDR"}
    rank, ranks = numbers["RANK"], numbers["WORLD_SIZE"]
    local_rank, local_ranks = numbers["LOCAL_RANK"], numbers["LOCAL_WORLD_SIZE"]
    if not (rank < ranks and local_rank < local_ranks <= ranks and local_rank <= rank):
        raise ValueError(
            f"RANK={rank}, WORLD_SIZE={ranks}, LOCAL_RANK={local_rank} and LOCAL_WORLD_SIZE={local_ranks} contradict "
            "one another: start the run with torchrun or accelerate launch, which set them"
        )
    node = _number(environment, "GROUP_RANK") if environment.get("GROUP_RANK") else (rank - local_rank) // local_ranks
    attempt = _number(environment, "TORCHELASTIC_RESTART_COUNT") if "TORCHELASTIC_RESTART_COUNT" in environment else 0
    return Launch(
        rank, ranks, local_rank, local_ranks, node, environment["MASTER_ADDR"], numbers["MASTER_PORT"], attempt
    )


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{name}={text}: expected a whole number, as torchrun and accelerate launch set it")
    return int(text)


def check_device(launch: Launch, device: str, environment: Mapping[str, str] = os.environ) -> None:
    """Check that each of a host's ranks can have a GPU of its own, or that all are on the CPU.

    device: as the setting DEVICE has it.

    Raises:
        ValueError: one line that says what does not agree.
    """
    if launch.is_alone or device == "cpu":
        return
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if ":" in device and launch.local_ranks > 1:
        raise ValueError(
            f"DEVICE={device} is one GPU, and the launcher started {launch.local_ranks} processes here, each of which "
            "takes the GPU of its LOCAL_RANK: leave DEVICE out, or start one process"
        )
    if ":" in device and int(device.partition(":")[2]) != launch.local_rank:
        raise ValueError(
            f"DEVICE={device} and LOCAL_RANK={launch.local_rank} name two GPUs: leave DEVICE out, or choose with "
            "CUDA_VISIBLE_DEVICES"
        )
    there = count_gpus(environment)
    if there is None and chosen is not None:  # chosen by UUID, or a number twice
        there = len(set(re.findall(r"(?:GPU-|MIG-|[0-9])[^,\s]*", chosen)))
    if there is None or (there == 0 and device == "auto"):
        return
    if there < launch.local_ranks:
        left = "this host has" if chosen is None else f"CUDA_VISIBLE_DEVICES={chosen} leaves"
        advice = f"--nproc-per-node {there}" if there else "fix the driver"
        raise ValueError(
            f"the launcher started {launch.local_ranks} processes here, and {left} {there} GPU(s): {advice}, or "
            "DEVICE=cpu"
        )


def take_gpu(launch: Launch, device: str, environment: MutableMapping[str, str] = os.environ) -> str:
    """Leave this process the GPU of its rank alone, and return DEVICE as it is to be read then.

    Call it before anything starts CUDA.

    Raises:
        ValueError: as `check_device`.
    """
    check_device(launch, device, environment)
    if launch.is_alone or device == "cpu":
        return device
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        environment["CUDA_VISIBLE_DEVICES"] = str(launch.local_rank)
    elif len(words := [word.strip() for word in chosen.split(",")]) > launch.local_rank and words != [""]:
        environment["CUDA_VISIBLE_DEVICES"] = words[launch.local_rank]
    return device.partition(":")[0]
