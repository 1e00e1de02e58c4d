"""The section `variants`: one model to measure, and how its checkpoint is made."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from dyno.experiment.request import RequestConfig, without_secrets
from finetune.config import VariantFinetune
from foundation.http.endpoint import ADDRESS
from foundation.names import VariantName
from foundation.path_fields import FileOrName, PathField
from foundation.secrets import check_variable
from foundation.section import Section
from foundation.units import Count, Share
from quantize.config import QuantizeConfig
from serve.config import VariantServe

FINETUNE = "finetune"
"""The name of the adapter that the experiment trains itself."""
_OWN = re.compile(rf"{FINETUNE}(/epoch-(?P<epoch>[1-9]\d*))?")


def is_own(name: str | None) -> bool:
    """Whether an adapter is the experiment's own: "finetune", or an epoch, "finetune/epoch-2"."""
    return name is not None and _OWN.fullmatch(name) is not None


def own_epoch(name: str | None) -> int | None:
    """2 for "finetune/epoch-2"; None for the best epoch, and for any other adapter."""
    match = _OWN.fullmatch(name or "")
    return int(match["epoch"]) if match and match["epoch"] else None


Adapter = Annotated[str, PathField(or_name=True, unless=is_own)]


Url = Annotated[str, Field(pattern=rf"{ADDRESS}|^\$\{{\w+\}}")]


class VariantSampling(Section):
    """What a variant's requests limit its answers by; None leaves it to `workload.sampling`."""

    max_tokens: Count | None = None
    stop: tuple[str, ...] | None = None


class VariantConfig(Section):
    """One model to measure. Without adapter, merge, model and url it is the experiment's own model.

    `adapter` and `merge` take "finetune" (this experiment's own, or "finetune/epoch-1"), a folder
    or a hub id. `quantize` works on the merged model, or on the model. `prune` leaves out that
    share of the layers and heals the rest by fine-tuning. `distil` names the variant whose answers
    replace those of the data. The section finetune trains both; their adapters are merged.
    `sampling`: how its answers are limited, where that differs from `workload.sampling`.
    `serve` holds what the variant's server has otherwise than the section serve. `finetune` holds
    what its training has otherwise than the section finetune; it is of the variant's own model,
    and is merged unless it says adapter: finetune.
    `url`: an API that runs already; of several addresses, `other_urls` has all but the first, and
    requests go to them in turns.
    """

    name: VariantName
    prompt: str | None = None
    model: FileOrName | None = None
    adapter: Adapter | None = None
    merge: Adapter | None = None
    quantize: QuantizeConfig | None = None
    prune: Share | None = None
    distil: str | None = None
    url: Url | None = None
    other_urls: tuple[Url, ...] | None = None
    api_key_env: str | None = None
    request: RequestConfig | None = None
    sampling: VariantSampling | None = None
    serve: VariantServe | None = None
    finetune: VariantFinetune | None = None

    @model_validator(mode="before")
    @classmethod
    def _several_urls(cls, value: object) -> object:
        if not isinstance(value, dict) or not isinstance(urls := value.get("url"), list | tuple):
            return value
        if not urls:
            raise ValueError("url: an empty list; write the address of a server")
        return {**value, "url": urls[0], "other_urls": urls[1:] or None}

    @model_validator(mode="before")
    @classmethod
    def _merged_if_trained(cls, value: object) -> object:
        if not isinstance(value, dict) or value.get("finetune") is None:
            return value
        made = any(value.get(key) is not None for key in ("adapter", "merge", "prune", "distil"))
        return value if made or value.get("url") else {**value, "merge": FINETUNE}

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        return None if value is None else check_variable(value)

    @model_validator(mode="after")
    def _one_origin(self) -> VariantConfig:
        if self.adapter and self.merge:
            raise ValueError("adapter (served beside its base) or merge (folded into it), not both")
        if self.adapter and self.quantize:
            raise ValueError(
                "an adapter is served on the unquantized base; "
                "write merge instead of adapter to quantize it"
            )
        if self.is_student and (self.adapter or self.merge):
            raise ValueError(
                "prune and distil train an adapter of their own and merge it: "
                "leave out adapter and merge"
            )
        if self.distil and self.prune is None and not self.model:
            raise ValueError(
                "distil teaches a smaller model: write which (model), "
                "or the share of layers to leave out (prune)"
            )
        self._check_url()
        if self.finetune and not self.is_trained:
            raise ValueError(
                "finetune trains the variant's adapter: write merge: finetune or "
                "adapter: finetune, or leave finetune out"
            )
        return self

    def _check_url(self) -> None:
        if self.url and (self.adapter or self.is_made):
            raise ValueError(
                "a url is served elsewhere: leave out adapter, merge, prune, distil and quantize"
            )
        if self.url and not self.model:
            raise ValueError("a url needs model, the name its server knows the model by")
        if self.other_urls and not self.url:
            raise ValueError("other_urls belong to a url; write all of them as url: [...]")
        if self.api_key_env and not self.url:
            raise ValueError("api_key_env belongs to a url")
        if self.finetune and self.url:
            raise ValueError(
                "finetune trains a model here, and a url is served elsewhere; leave it out"
            )
        if self.serve and self.url:
            raise ValueError(
                "serve says how dyno starts a server, and a url is served elsewhere; leave it out"
            )
        if self.request and not self.url:
            raise ValueError(
                "request belongs to a url: what dyno serves itself takes its requests as they are"
            )

    def public(self) -> Self:
        """The variant as a run directory keeps it: without secrets in its address and request."""
        if self.url is None:
            return self
        (url, *others), request = without_secrets(self.urls, self.request)
        update = {"url": url, "other_urls": tuple(others) or None, "request": request}
        return self.model_copy(update=update)

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses of all replicas; none of a variant that is served here."""
        return (self.url, *(self.other_urls or ())) if self.url is not None else ()

    @property
    def is_student(self) -> bool:
        """Whether it is trained separately: pruned and healed, or taught by another variant."""
        return self.prune is not None or self.distil is not None

    @property
    def is_trained(self) -> bool:
        """Whether this run trains the variant's adapter."""
        return self.is_student or is_own(self.adapter) or is_own(self.merge)

    @property
    def is_made(self) -> bool:
        """Whether the run writes a checkpoint for it."""
        return self.is_student or self.merge is not None or self.quantize is not None
