"""Whose the GPUs are, and whether a request fits the nodes."""

from dataclasses import replace

import pytest

from engine.catalogue import Resources
from engine.fleet.fit import Need, fit
from engine.fleet.gpus import GpuType, NodeUse, by_node, by_type, takes_jobs
from engine.fleet.schedulers.jobs import Job, Node

MARK = "engine:home:llama:0:1"
BIG = Node("n1", "MIXED", ("gpu-large", "all"), 32, 8, 256.0, {"a100": 4}, {"a100": 3}, mem_gb_used=64.0)
SMALL = Node("n2", "IDLE", ("gpu-small", "all"), 16, 0, 64.0, {"l40s": 2}, {})
DOWN = Node("n3", "DOWN*", ("gpu-large", "all"), 32, 0, 256.0, {"a100": 4}, {}, reason="power")
PLAIN = Node("n4", "IDLE", ("cpu",), 64, 60, 512.0, {}, {})
NODES = [BIG, SMALL, DOWN, PLAIN]
VRAM = {"a100": 80.0, "l40s": 48.0}


def job(**more: object) -> Job:
    return replace(Job("7", "llama-0", "RUNNING", nodes="n1", gres="gpu:a100:2", comment=MARK), **more)


def test_a_gpu_is_ours_others_or_free() -> None:
    uses = by_node(NODES, [job(), job(id="8", comment="somebody's", gres="gpu:a100:1")], "home")
    assert uses[0] == NodeUse("n1", {"a100": 2}, {"a100": 1}, ("7",))
    assert by_type(NODES, uses) == [
        GpuType("a100", total=8, ours=2, others=1, free=1, away=4),
        GpuType("l40s", total=2, free=2),
    ]


def test_a_job_over_several_nodes_holds_its_gpus_on_each() -> None:
    [one, other] = by_node([BIG, replace(BIG, name="n5")], [job(nodes="n[1,5]", gres="gpu:a100:1")], "home")
    assert (one.ours, other.ours) == ({"a100": 1}, {"a100": 1})


def test_a_job_that_asked_for_any_gpu_holds_some_of_the_nodes_only_type() -> None:
    [use] = by_node([BIG], [job(gres="gpu:1")], "home")
    assert (use.ours, use.others) == ({"a100": 1}, {"a100": 2})


@pytest.mark.parametrize("state", ["PENDING", "COMPLETED", "COMPLETING"])
def test_a_job_that_does_not_run_holds_nothing(state: str) -> None:
    assert by_node([BIG], [job(state=state)], "home")[0].ours == {}


@pytest.mark.parametrize("state", ["DOWN", "IDLE*", "IDLE+DRAIN", "FAIL", "MIXED+MAINT"])
def test_a_node_in_trouble_takes_no_jobs(state: str) -> None:
    assert not takes_jobs(replace(BIG, state=state))


@pytest.mark.parametrize(
    ("need", "possible", "now", "words"),
    [
        (Need(Resources(1, 8, 1, 80), "a100", "gpu-large"), True, 1,
         "needs 1 GPU of 80 GB (a100): partition gpu-large has 4, 1 of them free; room for 1 now"),
        (Need(Resources(1, 8, 2, 80), "a100", "gpu-large"), True, 0,
         "needs 2 GPUs of 80 GB (a100): partition gpu-large has 4, 1 of them free; "
         "too little is free now, so the job would wait"),
        (Need(Resources(1, 8, 8, 80), "a100", "gpu-large"), False, 0,
         "needs 8 GPUs of 80 GB (a100): the largest node of partition gpu-large has 4 GPUs of type a100"),
        (Need(Resources(1, 8, 1), "h100"), False, 0, "needs 1 GPU (h100): the cluster has no GPU of type h100"),
        (Need(Resources(1, 8, 1), "a100", "cpu"), False, 0,
         "needs 1 GPU of 80 GB (a100): partition cpu has no GPU of type a100"),
        (Need(Resources(1, 8, 1), "", "nowhere"), False, 0, "needs 1 GPU: partition nowhere has no nodes"),
        (Need(Resources(2, 4), "", "cpu"), True, 2,
         "needs 2 CPUs and 4 GB of memory: partition cpu has 1 node that can, 4 CPUs free; room for 2 now"),
        (Need(Resources(128, 4)), False, 0,
         "needs 128 CPUs and 4 GB of memory: the largest node of the cluster has 64 CPUs, not 128"),
        (Need(Resources(1, 999)), False, 0,
         "needs 1 CPU and 999 GB of memory: the largest node of the cluster has 512 GB of memory, not 999"),
        (Need(Resources(32, 300, 2)), False, 0,
         "needs 2 GPUs: the cluster has 0 nodes with GPUs, CPUs and memory for it at once"),
        (Need(Resources(1, 8, 1, nodes=2), "a100"), False, 0,
         "needs 1 GPU of 80 GB (a100) on each of 2 nodes: "
         "the cluster has 1 node with GPUs, CPUs and memory for it at once"),
    ],
)  # fmt: skip
def test_a_request_is_held_against_the_nodes(need: Need, possible: bool, now: int, words: str) -> None:
    found = fit(need, NODES, VRAM)
    assert (found.possible, found.replicas_now, found.words) == (possible, now, words)


def test_a_partition_whose_nodes_are_all_down_says_so() -> None:
    found = fit(Need(Resources(1, 8, 1), "a100"), [DOWN], VRAM)
    assert not found.possible and found.words.endswith("no node of the cluster takes jobs at the moment")
