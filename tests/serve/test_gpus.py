"""GPUs behind a module that stands in for pynvml: NVML itself does not run in these tests."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest

from serve.telemetry.gpus import Gpus
from serve.telemetry.machine import MachineSensors


class NvmlError(Exception):
    """As `pynvml.NVMLError`."""


class UnknownFunction(NvmlError):
    """As `pynvml.NVMLError_FunctionNotFound`."""


def nvml(refused: dict[str, NvmlError] | None = None, count: int = 2) -> ModuleType:
    """A module with `count` GPUs. `refused`: the error that a function raises, by its name."""
    answers: dict[str, Callable[..., object]] = {
        "Init": lambda: None,
        "DeviceGetCount": lambda: count,
        "DeviceGetHandleByIndex": lambda index: index,
        "DeviceGetHandleByUUID": lambda uuid: int(uuid[-1]),
        "DeviceGetTotalEnergyConsumption": lambda gpu: 1_000_000 * (gpu + 1),
        "DeviceGetPowerUsage": lambda gpu: 300_000 + gpu * 50_000,
        "DeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=[100, 20][gpu]),
        "DeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=1 << 30),
        "DeviceGetClockInfo": lambda gpu, kind: [1980, 1410][gpu] if kind == 1 else 2619,
        "DeviceGetTemperature": lambda gpu, sensor: [55, 61][gpu],
        "DeviceGetCurrentClocksEventReasons": lambda gpu: [0x4, 0x40][gpu],
        "DeviceGetCurrentClocksThrottleReasons": lambda gpu: 0x20,
        "DeviceGetPcieThroughput": lambda gpu, way: 500 + gpu + 1000 * way,
    }
    module = ModuleType("pynvml")

    def function(name: str, answer: Callable[..., object]) -> object:
        def call(*arguments: object) -> object:
            if name in (refused or {}):
                raise (refused or {})[name]
            return answer(*arguments)

        return call

    for name, answer in answers.items():
        setattr(module, f"nvml{name}", function(name, answer))
    constants = {"CLOCK_SM": 1, "CLOCK_MEM": 2, "TEMPERATURE_GPU": 0}
    ways = {"PCIE_UTIL_TX_BYTES": 0, "PCIE_UTIL_RX_BYTES": 1}
    for name, value in (constants | ways).items():
        setattr(module, f"NVML_{name}", value)
    errors = {"NVMLError": NvmlError, "NVMLError_FunctionNotFound": UnknownFunction}
    for name, error in errors.items():
        setattr(module, name, error)
    return module


@pytest.fixture(autouse=True)
def _all_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_the_numbers_of_two_gpus_are_joined() -> None:
    gpus = Gpus(nvml())
    first = gpus.read()
    assert "gpu_pcie_rx_bytes_s" not in first  # one GPU a sample
    assert gpus.read() == {
        "gpu_energy_j": 3000, "gpu_power_w": 650, "gpu_utilization": pytest.approx(0.6),
        "gpu_memory_bytes": 2 << 30, "gpu_sm_clock_mhz": 1410, "gpu_memory_clock_mhz": 2619,
        "gpu_temperature_c": 61, "gpu_throttle": 0x44,
        "gpu_pcie_rx_bytes_s": 3_001_000, "gpu_pcie_tx_bytes_s": 1_001_000,
    }  # fmt: skip
    assert gpus.absent is None and gpus.trouble is None and gpus.count == 2


@pytest.mark.parametrize(("named", "power"), [("1", 350), ("GPU-0, GPU-1", 650), ("0,", 300)])
def test_only_visible_gpus_are_read(
    monkeypatch: pytest.MonkeyPatch, named: str, power: float
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert Gpus(nvml()).read()["gpu_power_w"] == power


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Init", "NVML Shared Library Not Found"),
        ("Init", "Driver Not Loaded"),
        ("DeviceGetCount", "Insufficient Permissions"),
    ],
)
def test_without_library_driver_or_permission_there_is_nothing_and_why(
    name: str, error: str
) -> None:
    gpus = Gpus(nvml({name: NvmlError(error)}))
    assert gpus.absent == f"NVML can't be used ({error})" and gpus.count == 0


def test_without_the_package_or_a_gpu_there_is_nothing_and_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(name)

    assert Gpus(nvml(count=0)).absent == "NVML shows no GPU that servers may use"
    monkeypatch.setattr(importlib, "import_module", missing)
    assert Gpus().absent == "NVML is missing (pip install nvidia-ml-py)"


def test_what_a_gpu_does_not_give_is_left_out_and_named_once() -> None:
    refused = {
        "DeviceGetTotalEnergyConsumption": NvmlError("Not Supported"),
        "DeviceGetPcieThroughput": NvmlError("Not Supported"),
        "DeviceGetCurrentClocksEventReasons": UnknownFunction("Function Not Found"),
    }
    gpus = Gpus(nvml(refused))
    fields = [gpus.read() for _ in range(3)][-1]
    assert "gpu_energy_j" not in fields and "gpu_pcie_tx_bytes_s" not in fields
    assert fields["gpu_power_w"] == 650 and fields["gpu_throttle"] == 0x20
    assert gpus.absent is None
    words = "NVML does not give energy, PCIe traffic on this machine (Not Supported)"
    assert gpus.trouble == words


async def test_the_machine_says_why_it_has_no_energy() -> None:
    sensors = MachineSensors()
    sensors.gpus = Gpus(nvml({"DeviceGetTotalEnergyConsumption": NvmlError("Not Supported")}))
    sensors.rapl.absent = "no counters"
    fields = await sensors.read()
    assert fields["gpu_power_w"] == 650 and "cpu_energy_j" not in fields
    energy = {"gpu_energy_j": "NVML gives no energy (Not Supported)", "cpu_energy_j": "no counters"}
    assert sensors.absent == energy
    sensors.gpus = Gpus(nvml({"Init": NvmlError("Driver Not Loaded")}))
    assert "gpu_power_w" not in await sensors.read()
    assert sensors.absent["gpu_energy_j"] == "NVML can't be used (Driver Not Loaded)"
