"""What the installed vLLM can serve: quantization formats, architectures, and which take adapters.

Reads vLLM's source (see `foundation.installed`). Where the source does not tell, nothing is
refused: vLLM may serve an architecture that its registry lacks through transformers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from foundation.installed import assigned, source, strings

_MODELS = "model_executor/models"
_LORA = "SupportsLoRA"
_KINDS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT")


def quantization_formats() -> frozenset[str]:
    """Names that a checkpoint's `quant_method` may have; empty if vLLM's source has no list."""
    return strings("vllm", "model_executor/layers/quantization/__init__.py", "QuantizationMethods")


def other_plugins() -> bool:
    """Whether further plugins are installed, which may bring their own formats.

    vLLM's own and the one for bitsandbytes do not count.
    """
    plugins = entry_points(group="vllm.general_plugins")
    return any(not plugin.value.startswith(("vllm.", "vllm_bnb_plugin:")) for plugin in plugins)


@cache
def architectures() -> dict[str, tuple[str, str]]:
    """vLLM's own text-generation models: architecture to (module, class)."""
    tree = source("vllm", f"{_MODELS}/registry.py")
    value = assigned(tree, "_TEXT_GENERATION_MODELS") if tree else None
    if not isinstance(value, ast.Dict):
        return {}
    pairs = zip(value.keys, value.values, strict=True)
    return {
        ast.literal_eval(key): ast.literal_eval(place) for key, place in pairs if key is not None
    }


def may_serve(architecture: str) -> bool:
    """Whether vLLM has this architecture, or may serve it through transformers or a plugin."""
    ours = [
        strings("vllm", f"{_MODELS}/registry.py", name)
        for name in ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
    ]
    ours += [strings("vllm", f"{_MODELS}/registry.py", "_TRANSFORMERS_SUPPORTED_MODELS")]
    theirs = [
        strings("transformers", "models/auto/modeling_auto.py", f"MODEL_FOR_{kind}_MAPPING_NAMES")
        for kind in _KINDS
    ]
    return (
        not ours[0] or other_plugins() or any(architecture in names for names in (*ours, *theirs))
    )


@dataclass(frozen=True)
class AdapterSupport:
    """Whether an architecture takes adapters at all.

    `embeddings`: which of its embeddings and output head an adapter may change.
    """

    any: bool
    embeddings: frozenset[str] = frozenset()


def adapter_support(architecture: str) -> AdapterSupport | None:
    """What vLLM adapts of an architecture; None if its source does not tell."""
    module, name = architectures().get(architecture, ("", ""))
    bases = list(_lineage(module, name)) if module else []
    if not bases or None in bases:
        return None
    classes = [base for base in bases if isinstance(base, ast.ClassDef)]
    if not any(_named(base) == _LORA for each in classes for base in each.bases):
        return AdapterSupport(any=False)
    embeddings = next(
        (value for each in classes if (value := assigned(each, "embedding_modules"))), None
    )
    names = (
        [key.value for key in embeddings.keys if isinstance(key, ast.Constant)]
        if isinstance(embeddings, ast.Dict)
        else []
    )
    return AdapterSupport(True, frozenset(map(str, names)))


def _lineage(module: str, name: str) -> Iterator[ast.ClassDef | None]:
    """A model's class, then its base classes; None stands for a class whose source is missing."""
    tree = None if "." in module else source("vllm", f"{_MODELS}/{module}.py")
    classes = (
        {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)} if tree else {}
    )
    yield classes.get(name)
    if tree is None or name not in classes:
        return
    imports = dict(_imports(tree))
    for base in map(_named, classes[name].bases):
        if base in classes:
            yield from _lineage(module, base)
        elif base in imports:
            yield from _lineage(*imports[base])


def _imports(tree: ast.Module) -> Iterator[tuple[str, tuple[str, str]]]:
    """Local name to (module, name) for classes of other models.

    Interfaces and other shared classes are left out: their names suffice.
    """
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        package, _, module = node.module.rpartition(".")
        ours = (node.level == 1 and not package) or package == "vllm.model_executor.models"
        if ours and module not in ("interfaces", "interfaces_base", "utils"):
            yield from ((alias.asname or alias.name, (module, alias.name)) for alias in node.names)


def _named(base: ast.expr) -> str:
    return base.id if isinstance(base, ast.Name) else ""
