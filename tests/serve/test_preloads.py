"""Libraries that servers preload: found where they lie, tried first, the user's own kept."""

from __future__ import annotations

import platform
import site
import subprocess
import sys
from pathlib import Path

import pytest

from serve import ServedVariant, check
from serve.config import ServeConfig
from serve.device import Device
from serve.vllm import preloads
from serve.vllm.arguments import device_variables
from tests.weightless_model import write_weightless_model

TCMALLOC, JEMALLOC, IOMP = "libtcmalloc_minimal.so.4", "libjemalloc.so.2", "libiomp5.so"
AARCH64 = (183).to_bytes(2, "little")
MACHINE = slice(18, 20)
"""Where an ELF file names its processor, `e_machine`."""

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="libiomp is for x86")


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the only libraries on this machine; empty at first."""
    (tmp_path / "lib").mkdir()
    for owner, name in ((sys, "prefix"), (sys, "base_prefix"), (site, "USER_BASE")):
        monkeypatch.setattr(owner, name, str(tmp_path))
    monkeypatch.setattr(preloads, "_linker_cache", dict)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    preloads.find_preloads.cache_clear()
    return tmp_path / "lib"


def loadable() -> bytes:
    """A shared library that any process of this machine can load: the C library's own libm."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return Path(next(line.split()[-1] for line in maps if "/libm.so" in line)).read_bytes()


def by_purpose(inherited: str = "") -> dict[str, preloads.Preload]:
    return {each.kind.purpose: each for each in preloads.find_preloads(inherited)}


def test_nothing_installed_names_the_line_that_installs_it(prefix: Path):
    allocator = by_purpose()["allocator"]
    assert allocator.library is None
    assert "apt install libtcmalloc-minimal4" in allocator.why_not
    assert device_variables(Device("cpu", None, 1)) == {}


@x86
def test_a_server_on_a_cpu_preloads_an_allocator_and_openmp(prefix: Path, tmp_path: Path):
    for name in (JEMALLOC, TCMALLOC, IOMP):
        (prefix / name).write_bytes(loadable())
    value = f"{prefix / TCMALLOC}:{prefix / IOMP}"
    model = write_weightless_model(tmp_path / "model")
    config = ServeConfig.model_validate(
        {"kv_cache": "64MiB", "memory": "64GB", "device": "cpu", "dtype": "float32"}
    )
    assert check([ServedVariant("base", model)], config).servers[0].variables == {
        "LD_PRELOAD": value
    }
    assert device_variables(Device("cuda", None, 1)) == {}
    loaded = subprocess.run(
        ["cat", "/proc/self/maps"], env={"LD_PRELOAD": value}, capture_output=True, text=True
    )
    assert str(prefix / TCMALLOC) in loaded.stdout and not loaded.stderr


def test_a_library_of_another_processor_is_left_out(prefix: Path):
    foreign = bytearray(loadable())
    foreign[MACHINE] = AARCH64 if platform.machine() == "x86_64" else b"\x3e\x00"
    (prefix / TCMALLOC).write_bytes(foreign)
    allocator = by_purpose()["allocator"]
    assert allocator.library is None
    assert f"{prefix / TCMALLOC} can't be preloaded: ERROR: ld.so" in allocator.why_not
    preloads.find_preloads.cache_clear()
    (prefix / JEMALLOC).write_bytes(loadable())
    assert by_purpose()["allocator"].library == prefix / JEMALLOC


def test_a_file_that_is_no_library_is_left_out(prefix: Path):
    (prefix / TCMALLOC).write_text("not an ELF file")
    assert "can't be preloaded" in by_purpose()["allocator"].why_not


@x86
def test_the_users_own_libraries_come_first_and_take_the_place_of_ours(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in (TCMALLOC, IOMP):
        (prefix / name).write_bytes(loadable())
    monkeypatch.setenv("LD_PRELOAD", "/mine/libmimalloc.so.2 /mine/libtrace.so")
    assert device_variables(Device("cpu", None, 1)) == {
        "LD_PRELOAD": f"/mine/libmimalloc.so.2:/mine/libtrace.so:{prefix / IOMP}"
    }
    monkeypatch.setenv("LD_PRELOAD", "/mine/libgomp.so.1")
    assert preloads.servers_preloads("cpu") == f"/mine/libgomp.so.1:{prefix / TCMALLOC}"
    assert preloads.servers_preloads("cuda") == "/mine/libgomp.so.1"


def test_the_record_names_the_file_behind_a_link_and_its_contents(tmp_path: Path):
    (tmp_path / "libtcmalloc_minimal.so.4.5.10").write_bytes(b"allocator")
    (tmp_path / TCMALLOC).symlink_to("libtcmalloc_minimal.so.4.5.10")
    assert preloads.described(f"{tmp_path / TCMALLOC}:/absent/libtrace.so") == (
        "libtcmalloc_minimal.so.4.5.10 (09290cc16784), libtrace.so"
    )


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("\tlibm.so.6 (libc6,x86-64, OS ABI: Linux 3.2.0) => /lib/libm.so.6", ["/lib/libm.so.6"]),
        ("215 libs found in cache `/etc/ld.so.cache'", []),
    ],
)
def test_a_line_of_the_linkers_cache(line: str, paths: list[str]):
    assert [m[2] for m in [preloads._CACHED.fullmatch(line)] if m] == paths
