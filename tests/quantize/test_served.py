"""vLLM serves what is written: the demo's model, quantized by every method of the CPU backend.

vLLM reads a checkpoint's numbers as transformers does (log-probability of held-out text), and
answers stay near those of the unquantized model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.data.examples import Example, PromptStyle, read_examples
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import quantize
from quantize.config import QuantizeConfig
from tests.vllm_server import DEADLINE_S, vllm_server

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Posts a body to a path of the server and returns its answer."""
QUESTIONS = 16
TEXTS, SHORTEST = 96, 24
BOUND = 0.03
STYLE = PromptStyle(
    "Topic of this news story (acq, crude, earn, grain, interest, money-fx, ship or trade):\n\n"
    "{input}"
)
EIGHT_BITS, FOUR_BITS = 0.6, 0.15
"""The least share of answers that begin like the unquantized model's: first words are near ties."""
WAYS = [
    ("w8a8-int8", "rtn", EIGHT_BITS), ("w8a8-int8", "gptq", EIGHT_BITS),
    ("w8a8-int8", "smoothquant", EIGHT_BITS), ("w4a16", "rtn", FOUR_BITS),
    ("w4a16", "gptq", FOUR_BITS), ("w4a16", "awq", FOUR_BITS),
    ("bnb-nf4", "rtn", FOUR_BITS), ("bnb-int8", "rtn", EIGHT_BITS),
]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * DEADLINE_S)]


@pytest.fixture(scope="module")
def model() -> ModelRef:
    pytest.importorskip("vllm")
    from dyno.experiment.bundled import bundled_model

    return bundled_model("smollm2-135m-instruct", Silent())


@pytest.fixture(scope="module")
def examples() -> dict[str, list[Example]]:
    from dyno.experiment.bundled import bundled_file

    return {
        split: read_examples(bundled_file(f"news-topics/{split}.jsonl", Silent()))
        for split in ("train", "heldout")
    }


@pytest.fixture(scope="module")
def texts(model: ModelRef, examples: dict[str, list[Example]]) -> list[list[int]]:
    """Token ids of held-out stories with different first tokens, so that each is an observation."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path)
    stories = [
        tokenizer(example.fields["input"], add_special_tokens=False)["input_ids"]
        for example in examples["heldout"]
    ]
    return list({ids[0]: ids for ids in reversed(stories) if len(ids) >= SHORTEST}.values())[:TEXTS]


@pytest.fixture(scope="module")
def unquantized(
    model: ModelRef,
    examples: dict[str, list[Example]],
    texts: list[list[int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[list[str]]:
    with vllm_server(model.path, tmp_path_factory.mktemp("unquantized") / "log") as server:
        check_perplexity("unquantized", model, server.ask, texts)
        return answers(server.ask, examples["heldout"])


@pytest.mark.parametrize(("method", "algorithm", "least"), WAYS)
def test_served(
    method: str, algorithm: str, least: float, model: ModelRef,
    examples: dict[str, list[Example]], texts: list[list[int]],
    unquantized: list[list[str]], tmp_path: Path,
) -> None:  # fmt: skip
    config = QuantizeConfig(method=method, algorithm=algorithm, calibration=64)
    checkpoint = quantize(model, config, tmp_path / "quantized", Silent(), examples["train"], STYLE)
    with vllm_server(checkpoint.path, tmp_path / "log") as server:
        check_perplexity(f"{method} {algorithm}", checkpoint, server.ask, texts)
        replies = answers(server.ask, examples["heldout"])
    same = sum(ours[0] == theirs[0] for ours, theirs in zip(replies, unquantized, strict=True))
    print(f"first tokens as unquantized: {same} of {QUESTIONS}")
    assert same >= least * QUESTIONS


def check_perplexity(way: str, model: ModelRef, ask: Ask, texts: list[list[int]]) -> None:
    """Within 3 % of transformers'. Prints the standard error of the ratio, which must be small."""
    expected, values = read_by_transformers(model, texts), read_by_server(ask, texts)
    lengths = np.array([len(logs) for logs in values])
    difference = np.array(
        [sum(ours) - sum(theirs) for ours, theirs in zip(values, expected, strict=True)]
    )
    mean = difference.sum() / lengths.sum()
    error = np.sqrt(((difference - mean * lengths) ** 2).sum()) / lengths.sum()
    served, read = (math.exp(-sum(map(sum, logs)) / lengths.sum()) for logs in (values, expected))
    print(
        f"{way}: perplexity served {served:.2f}, by transformers {read:.2f}, "
        f"standard error of the ratio {error:.2%}"
    )
    assert error < BOUND / 3
    assert served == pytest.approx(read, rel=BOUND)


def read_by_transformers(model: ModelRef, texts: list[list[int]]) -> list[list[float]]:
    """Log-probability of every token but the first, in the dtype of the checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        model.path, dtype="auto", device_map={"": "cpu"}
    ).eval()
    values = []
    with torch.no_grad():
        for ids in texts:
            log = loaded(input_ids=torch.tensor([ids])).logits[0, :-1].float().log_softmax(dim=-1)
            values.append(log.gather(1, torch.tensor(ids)[1:, None])[:, 0].tolist())
    return values


def read_by_server(ask: Ask, texts: list[list[int]]) -> list[list[float]]:
    values = []
    for ids in texts:
        reply = ask(
            "completions", {"prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        )
        per_place = reply["choices"][0]["prompt_logprobs"][1:]
        values.append(
            [place[str(token)]["logprob"] for place, token in zip(per_place, ids[1:], strict=True)]
        )
    return values


def answers(ask: Ask, heldout: list[Example]) -> list[list[str]]:
    """The greedy answers' tokens."""
    values = []
    for example in heldout[:QUESTIONS]:
        body = {
            "messages": STYLE.render(example),
            "max_tokens": 8,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 1,
        }
        choice = ask("chat/completions", body)["choices"][0]
        values.append([token["token"] for token in choice["logprobs"]["content"]])
    return values
