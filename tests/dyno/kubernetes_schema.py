"""The fields of Kubernetes 1.33 that the examples use, as a JSON Schema: no others are let through.

Written by hand after the API reference, since the package that has the whole schema
(kubernetes-validate) takes 72 MB. Where that is installed, the tests ask it too.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def mapping(required: str = "", **fields: Schema) -> Schema:
    """An object with these fields and no others; `required`: the names of those it must have."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


NUMBER = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
TRUTH = {"type": "boolean"}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "maxLength": 253}
QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[kMGT]i?)?$"}
LABELS = {"type": "object", "additionalProperties": TEXT}
RESOURCES = mapping(cpu=QUANTITY, memory=QUANTITY)

CONTAINER = mapping(
    "name image",
    name=NAME,
    image=TEXT,
    command=list_of(TEXT),
    args=list_of(TEXT),
    workingDir=TEXT,
    env=list_of(mapping("name value", name=TEXT, value=TEXT)),
    envFrom=list_of(mapping(configMapRef=mapping("name", name=NAME))),
    resources=mapping(requests=RESOURCES, limits=RESOURCES),
    securityContext=mapping(
        allowPrivilegeEscalation=TRUTH, capabilities=mapping(drop=list_of(TEXT))
    ),
    volumeMounts=list_of(mapping("name mountPath", name=NAME, mountPath=TEXT)),
)
AFFINITY_TERM = mapping("topologyKey", labelSelector=mapping(matchLabels=LABELS), topologyKey=TEXT)
POD = mapping(
    "containers restartPolicy",
    restartPolicy=one_of("Never", "OnFailure", "Always"),
    activeDeadlineSeconds=NUMBER,
    affinity=mapping(
        podAntiAffinity=mapping(
            requiredDuringSchedulingIgnoredDuringExecution=list_of(AFFINITY_TERM)
        )
    ),
    securityContext=mapping(runAsNonRoot=TRUTH, runAsUser=NUMBER, fsGroup=NUMBER),
    containers=list_of(CONTAINER),
    volumes=list_of(
        mapping("name", name=NAME, persistentVolumeClaim=mapping("claimName", claimName=NAME))
    ),
)
JOB = mapping(
    "template",
    completionMode=one_of("Indexed", "NonIndexed"),
    completions=NUMBER,
    parallelism=NUMBER,
    backoffLimitPerIndex=NUMBER,
    activeDeadlineSeconds=NUMBER,
    template=mapping("spec", metadata=mapping(labels=LABELS), spec=POD),
)
CLAIM = mapping(
    "accessModes resources",
    accessModes=list_of(one_of("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany")),
    resources=mapping("requests", requests=mapping("storage", storage=QUANTITY)),
)


def manifest(version: str, kind: str, spec: Schema) -> Schema:
    """The schema of a manifest of this kind."""
    return mapping(
        "apiVersion kind metadata spec",
        apiVersion=one_of(version),
        kind=one_of(kind),
        metadata=mapping("name", name=NAME, labels=LABELS),
        spec=spec,
    )


MANIFESTS: dict[str, Schema] = {
    "Job": manifest("batch/v1", "Job", JOB),
    "Pod": manifest("v1", "Pod", POD),
    "PersistentVolumeClaim": manifest("v1", "PersistentVolumeClaim", CLAIM),
}
