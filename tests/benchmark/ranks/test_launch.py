"""How a process knows its rank, and that each rank of a host has a GPU of its own or is refused."""

from __future__ import annotations

import pytest

from benchmark.ranks import launch
from benchmark.ranks.launch import VARIABLES, Launch, read_launch, take_gpu
from benchmark.run.servers import server_environment

TORCHRUN = {
    "RANK": "9", "WORLD_SIZE": "12", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "2",
    "MASTER_ADDR": "gpu-1", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "1",
}  # fmt: skip


def rank_1_of_2(environment: dict[str, str], device: str = "auto") -> tuple[str, dict[str, str]]:
    """Return DEVICE and the environment once rank 1 of a host with two ranks has taken its GPU."""
    return take_gpu(Launch(rank=1, ranks=2, local_rank=1, local_ranks=2), device, environment), environment


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose only entry is how many GPUs there are."""
    there = [4]

    def count(environment: dict[str, str]) -> int | None:
        from benchmark.measure.accelerators import visible_gpus

        return visible_gpus(there[0], environment.get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.setattr(launch, "count_gpus", count)
    return there


def test_without_a_launcher_a_process_is_alone() -> None:
    assert read_launch({}) == Launch()
    assert read_launch({"WORLD_SIZE": "1", "RANK": "0"}).is_alone
    assert read_launch({"RANK": "16"}).is_alone, "the rank of a LoRA"
    assert read_launch(TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}).is_alone


def test_torchruns_variables_say_which_rank_of_which_host_this_is() -> None:
    found = read_launch(TORCHRUN)
    assert found == Launch(9, 12, 1, 4, 2, "gpu-1", 29500, 1)
    assert (found.first_of_node, list(found.node_ranks)) == (8, [8, 9, 10, 11])
    assert found.name.startswith("rank 9 on ")
    assert found.host.endswith("#2")
    without_group = {name: value for name, value in TORCHRUN.items() if name != "GROUP_RANK"}
    assert read_launch(without_group).node == 2


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"MASTER_PORT": ""}, "WORLD_SIZE=12 without MASTER_PORT: start the run with torchrun"),
        ({"RANK": "one"}, "RANK=one: expected a whole number"),
        ({"RANK": "12"}, "contradict one another"),
        ({"LOCAL_RANK": "4"}, "contradict one another"),
        ({"WORLD_SIZE": "-3"}, "WORLD_SIZE=-3: expected a whole number"),
    ],
)
def test_variables_that_no_launcher_sets_so_are_refused_in_one_line(changed: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match="torchrun") as caught:
        read_launch(TORCHRUN | changed)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("gpus")
def test_each_rank_sees_the_gpu_of_its_own_number_alone() -> None:
    assert rank_1_of_2({}) == ("auto", {"CUDA_VISIBLE_DEVICES": "1"})
    assert rank_1_of_2({"CUDA_VISIBLE_DEVICES": "3, 2"}, "cuda") == ("cuda", {"CUDA_VISIBLE_DEVICES": "2"})
    assert rank_1_of_2({"CUDA_VISIBLE_DEVICES": "GPU-89,MIG-1"}) == ("auto", {"CUDA_VISIBLE_DEVICES": "MIG-1"})
    assert rank_1_of_2({"CUDA_VISIBLE_DEVICES": "3,2"}, "cpu") == ("cpu", {"CUDA_VISIBLE_DEVICES": "3,2"})
    assert take_gpu(Launch(), "cuda:2", {}) == "cuda:2", "one process alone chooses as before"


def test_ranks_on_a_machine_without_a_gpu_are_on_its_cpu(gpus: list[int]) -> None:
    gpus[0] = 0
    assert rank_1_of_2({})[0] == "auto"
    with pytest.raises(ValueError, match="this host has 0"):
        rank_1_of_2({}, "cuda")


@pytest.mark.usefixtures("gpus")
def test_a_gpu_for_each_rank_or_a_line_that_says_what_does_not_agree() -> None:
    with pytest.raises(ValueError, match="DEVICE=cuda:1 is one GPU, and the launcher started 2 processes here"):
        rank_1_of_2({}, "cuda:1")
    with pytest.raises(
        ValueError, match=r"CUDA_VISIBLE_DEVICES=3 leaves 1 GPU\(s\): --nproc-per-node 1, or DEVICE=cpu"
    ):
        rank_1_of_2({"CUDA_VISIBLE_DEVICES": "3"})
    with pytest.raises(ValueError, match=r"CUDA_VISIBLE_DEVICES=GPU-8932, leaves 1 GPU\(s\)"):
        rank_1_of_2({"CUDA_VISIBLE_DEVICES": "GPU-8932,"})
    one_per_host = Launch(rank=1, ranks=2, local_rank=0, local_ranks=1, node=1)
    with pytest.raises(ValueError, match="DEVICE=cuda:3 and LOCAL_RANK=0 name two GPUs"):
        take_gpu(one_per_host, "cuda:3", {})
    assert take_gpu(one_per_host, "cuda:0", {}) == "cuda"


def test_workers_see_nothing_of_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert not set(VARIABLES) & set(server_environment())
