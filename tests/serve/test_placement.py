"""Cores, accelerators and memory of replicas and of servers that are divided, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foundation.errors import BadInput
from serve import ServedVariant, check
from serve.config import ServeConfig, VariantServe
from serve.device import Device
from serve.placement import check_accelerators, own_accelerators, replica_cores, sharing
from serve.plan import check_fits
from serve.ray_cluster import RayCluster, address_variables, cluster_of, running_cluster
from serve.vllm.memory import CPU_RUNTIME_BYTES, MemoryEstimate, estimate_memory
from serve.vllm.parallel import check_executor, parallel_options
from tests.serve.test_settings import GB, absent, common

CPU = Device("cpu", 64 * GB, 2)
FOUR = Device("cuda", 80 * GB, 1, accelerators=("0", "1", "GPU-2", "3"))


def config(**fields: object) -> ServeConfig:
    return ServeConfig.model_validate({"kv_cache": "1GB", **fields})


def cores(*numbers: int) -> list[frozenset[int]]:
    """Each core with two logical processors."""
    return [frozenset({n, n + 8}) for n in numbers]


def test_replicas_divide_the_cores_if_each_gets_two() -> None:
    assert replica_cores(1, 2, cores(0, 1, 2, 3, 4)) == {0, 8, 1, 9}
    assert replica_cores(2, 2, cores(0, 1, 2, 3, 4)) == {2, 10, 3, 11}
    assert replica_cores(1, 2, cores(0, 1, 2)) is None
    assert replica_cores(1, 1, cores(0, 1, 2)) is None


def test_each_replica_gets_accelerators_of_its_own_as_far_as_there_are() -> None:
    two = config(replicas=2, tensor_parallel=2)
    assert [own_accelerators(n, two, FOUR) for n in (1, 2)] == [
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "GPU-2,3"},
    ]
    assert sharing(two, FOUR) == 1
    three = config(replicas=3, tensor_parallel=2)  # 6 on 4: the third goes to the first two
    assert own_accelerators(3, three, FOUR) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert sharing(three, FOUR) == 2
    assert sharing(three, CPU) == 3
    assert own_accelerators(1, config(), FOUR) == {}
    assert own_accelerators(1, config(replicas=2, executor="ray"), FOUR) == {}


def test_replicas_that_share_a_memory_must_fit_it_together() -> None:
    half = MemoryEstimate(weights=10 * GB, kv_cache=25 * GB, runtime=3 * GB)
    one = Device("cuda", 80 * GB, 1, accelerators=("0",))
    check_fits(half, config(replicas=2, gpu_memory_utilization=0.5), one)
    with pytest.raises(
        BadInput, match=r"serve\.replicas: 3 replicas on one accelerator need about"
    ):
        check_fits(half, config(replicas=3, gpu_memory_utilization=0.5), one)
    with pytest.raises(BadInput, match=r"2 replicas on this machine need about 76\.0 GB"):
        check_fits(half, config(replicas=2), CPU)


def test_a_server_that_needs_more_accelerators_than_there_are_is_refused() -> None:
    check_accelerators("base", config(tensor_parallel=2, data_parallel=2, replicas=8), FOUR)
    check_accelerators("base", config(tensor_parallel=8), replace(FOUR, accelerators=()))
    with pytest.raises(BadInput, match=r"base needs 8 accelerators \(tensor_parallel 4 x pip"):
        check_accelerators("base", config(tensor_parallel=4, pipeline_parallel=2), FOUR)
    on_ray = replace(FOUR, cluster=RayCluster(nodes=2, accelerators=8, largest=4))
    check_accelerators("base", config(tensor_parallel=4, replicas=2, executor="ray"), on_ray)
    with pytest.raises(BadInput, match=r"base needs 12 .*replicas 3\) and Ray's cluster has 8"):
        check_accelerators("base", config(tensor_parallel=4, replicas=3, executor="ray"), on_ray)


def test_memory_is_divided_by_workers_and_multiplied_by_copies() -> None:
    """1 billion parameters in 16 bits are 2 GB."""
    variant = ServedVariant("v", absent("org/model-1B"))
    sizes = {"tensor_parallel": 2, "pipeline_parallel": 2, "data_parallel": 2}
    gpu = estimate_memory(variant, config(**sizes, gpu_memory_utilization=0.5), FOUR, "bfloat16")
    assert (gpu.weights, gpu.total) == (GB // 2, 40 * GB)
    cpu = estimate_memory(variant, config(**sizes), CPU, "bfloat16")
    assert (cpu.weights, cpu.kv_cache, cpu.runtime) == (4 * GB, 8 * GB, CPU_RUNTIME_BYTES)


def test_rays_nodes_count_as_far_as_they_are_alive() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0, "accelerator_type:H100": 1.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": False, "Resources": {"GPU": 8.0}},
        {"Alive": True, "Resources": None},
    ]
    assert cluster_of(nodes) == RayCluster(nodes=4, accelerators=6, largest=4)
    assert cluster_of([]) == RayCluster(0, 0, 0)


def test_servers_go_to_the_cluster_that_was_asked_unless_the_user_names_one() -> None:
    cluster = RayCluster(nodes=1, accelerators=1, largest=1, address="10.0.0.1:6379")
    assert address_variables(cluster, {"HOME": "/root"}) == {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert address_variables(cluster, {"RAY_ADDRESS": ""}) == {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert address_variables(cluster, {"RAY_ADDRESS": "ray://10.0.0.2:10001"}) == {}
    assert address_variables(replace(cluster, address=""), {}) == {}
    assert address_variables(None, {}) == {}


def test_the_sizes_and_the_executor_are_vllms_own_options() -> None:
    assert parallel_options(config()) == []
    assert parallel_options(
        config(tensor_parallel=2, pipeline_parallel=3, data_parallel=4, executor="ray")
    ) == [
        "--tensor-parallel-size=2",
        "--pipeline-parallel-size=3",
        "--data-parallel-size=4",
        "--distributed-executor-backend=ray",
        "--data-parallel-backend=ray",
    ]


def test_ray_is_refused_where_the_cpu_backend_has_none() -> None:
    """vLLM 0.32 says "current platform cpu does not support ray" once it starts."""
    check_executor(config(executor="ray"), FOUR)
    check_executor(config(executor="mp"), CPU)
    with pytest.raises(BadInput, match=r"serve\.executor: the installed vLLM does not run on Ray"):
        check_executor(config(executor="ray"), CPU)


def test_a_plan_has_a_server_for_each_replica() -> None:
    variants = [ServedVariant("a", absent("org/model-1B")), ServedVariant("b", absent("o/n-1B"))]
    plan = check(variants, common(device="cpu", replicas=2, residency="turns"))
    assert [(s.name, s.replica, s.replicas) for s in plan.servers] == [
        ("a.replica-1", 1, 2),
        ("a.replica-2", 2, 2),
        ("b.replica-1", 1, 2),
        ("b.replica-2", 2, 2),
    ]
    assert plan.rounds == (("a",), ("b",))
    assert plan.memory_bytes == 4 * plan.servers[0].memory.total
    assert plan.servers[0].arguments == plan.servers[1].arguments
    with pytest.raises(BadInput, match=r"ports: 41000-41000 has . free port.* and 2 servers"):
        check(variants, common(device="cpu", replicas=2, residency="turns", ports="41000-41000"))


def test_a_variant_named_like_a_replica_is_refused() -> None:
    own = VariantServe.model_validate({"replicas": 2})
    variants = [
        ServedVariant("a", absent("o/m-1B"), settings=own),
        ServedVariant("a.replica-1", absent("o/n-1B")),
    ]
    with pytest.raises(BadInput, match=r"variants\.a\.replica-1: a replica has files of this name"):
        check(variants, common(device="cpu"))


@pytest.mark.slow
def test_a_running_cluster_is_asked_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    ray.init(address="local", num_cpus=1, num_gpus=3, include_dashboard=False, log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert running_cluster() == RayCluster(1, accelerators=3, largest=3, address=address)
    finally:
        ray.shutdown()
