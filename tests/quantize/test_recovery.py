from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
import torch

from foundation.data.examples import Example, PromptStyle
from foundation.models.model import ModelRef
from foundation.processor import fast_dtype
from foundation.progress import Silent
from foundation.run.recovery import ModelPair, Recovery, RecoveryRatio
from quantize import measure_recovery, quantize
from quantize.config import QuantizeConfig
from quantize.recovery import MAX_TOKENS, low_recovery
from quantize.templated_texts import tokenize

STYLE = PromptStyle("Sort: {input}")
WORDS = ("vowel", "consonant")


def example(number: int, length: int = 1) -> Example:
    prompt = f"word {number} " * length
    return Example(
        Path("heldout.jsonl"),
        number,
        ({"role": "user", "content": prompt},),
        WORDS[number % 2],
        {"input": prompt},
    )


HELDOUT = [example(number) for number in range(6)]


@pytest.fixture(scope="module")
def int8(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return quantize(
        base, QuantizeConfig(method="w8a8-int8"), tmp_path_factory.mktemp("int8"), Silent()
    )


@pytest.fixture(scope="module")
def measured(base: ModelRef, int8: ModelRef) -> Recovery:
    return measure_recovery(base, int8, HELDOUT, STYLE, Silent())


def test_a_text_is_what_a_server_sees_and_the_answer_through_its_end(base: ModelRef) -> None:
    from transformers import AutoTokenizer

    [text] = tokenize(base, HELDOUT[:1], STYLE, 1000)
    decode = AutoTokenizer.from_pretrained(base.path).decode
    assert (
        decode(text.ids[: text.answer])
        == "<|im_start|>user\nSort: word 0 <|im_end|>\n<|im_start|>assistant\n"
    )
    assert decode(text.ids[text.answer :]) == "vowel<|im_end|>"
    [cut] = tokenize(base, HELDOUT[:1], STYLE, 10)
    assert cut.ids == text.ids[:10]
    assert cut.answer == 10


def test_numbers_are_those_of_the_two_models(
    measured: Recovery, base: ModelRef, int8: ModelRef
) -> None:
    """Against an own computation: texts one by one, by the definitions; shared text counts once."""
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, fast_dtype())
    models = [
        AutoModelForCausalLM.from_pretrained(m.path, dtype=dtype).eval() for m in (base, int8)
    ]
    nll, divergence, agree, right, seen = [0.0, 0.0], 0.0, 0, [0.0, 0.0], set()
    for text in tokenize(base, HELDOUT, STYLE, MAX_TOKENS):
        with torch.no_grad():
            p, q = (
                m(input_ids=torch.tensor([text.ids])).logits[0].double().softmax(-1) for m in models
            )
        for place in range(len(text.ids) - 1):
            token = text.ids[place + 1]
            if place + 1 >= text.answer:
                right = [right[0] + float(p[place, token]), right[1] + float(q[place, token])]
            if (beginning := tuple(text.ids[: place + 2])) in seen:
                continue
            seen.add(beginning)
            nll = [nll[0] - math.log(p[place, token]), nll[1] - math.log(q[place, token])]
            divergence += float((p[place] * (p[place] / q[place]).log()).sum())
            agree += int(p[place].argmax() == q[place].argmax())
    numbers, tokens = measured.all_text, len(seen)
    assert numbers.tokens == tokens
    assert msgspec.to_builtins(numbers.perplexity) == pytest.approx(
        {"unquantized": math.exp(nll[0] / tokens), "quantized": math.exp(nll[1] / tokens)}, rel=1e-3
    )
    assert numbers.kl_divergence == pytest.approx(divergence / tokens, rel=0.02, abs=1e-6)
    assert numbers.top1_agreement == pytest.approx(agree / tokens)
    assert measured.recovery.value == pytest.approx(right[1] / right[0], rel=1e-3)
    assert measured.recovery.low is not None
    assert measured.recovery.low < measured.recovery.value < measured.recovery.high
    assert measured.texts == len(HELDOUT)


def test_sizes_are_per_weight_of_the_unquantized_model(
    measured: Recovery, base: ModelRef, int8: ModelRef
) -> None:
    from transformers import AutoModelForCausalLM

    weights = AutoModelForCausalLM.from_pretrained(
        base.path
    ).num_parameters()  # tied embeddings once
    assert measured.bytes == ModelPair(base.size_bytes(), int8.size_bytes())
    assert measured.bytes_per_weight.unquantized == pytest.approx(
        2.0, rel=0.05
    )  # bfloat16, and the file's header
    assert measured.bytes_per_weight.quantized == pytest.approx(int8.size_bytes() / weights)


def test_a_layer_that_is_spoilt_shows_from_there_on(base: ModelRef, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    spoilt = AutoModelForCausalLM.from_pretrained(base.path, dtype="auto")
    with torch.no_grad():
        spoilt.model.layers[1].mlp.down_proj.weight.neg_()
    spoilt.save_pretrained(tmp_path / "spoilt")
    numbers = measure_recovery(
        base, ModelRef("spoilt", None, tmp_path / "spoilt"), HELDOUT, STYLE, Silent()
    )
    assert numbers.layer_error[0] == 0
    assert numbers.layer_error[1] > 0.05
    assert numbers.all_text.kl_divergence > 0.05


def test_the_same_checkpoint_loses_nothing_and_a_loss_is_warned_of(
    base: ModelRef, tmp_path: Path
) -> None:
    import shutil

    copy = ModelRef("copy", None, Path(shutil.copytree(base.path, tmp_path / "copy")))
    same = measure_recovery(base, copy, HELDOUT, STYLE, Silent())
    assert (same.recovery.value, same.all_text.kl_divergence, same.all_text.top1_agreement) == (
        1.0,
        0.0,
        1.0,
    )
    assert set(same.layer_error) == {0.0}
    assert same.warning is None
    assert same.answers is not None
    of = f"on {same.answers.tokens} held-out tokens"
    lost, open_ = (
        low_recovery(RecoveryRatio(0.952, low, high), same.answers.tokens)
        for low, high in ((0.93, 0.975), (0.9, 1.002))
    )
    assert lost == f"recovery is 95.2% (93.0% to 97.5%), under 99%, {of}"
    assert open_ == f"recovery is 95.2% (90.0% to 100.2%), under 99%, {of}: too few to settle it"


def test_it_is_written_beside_the_checkpoint(measured: Recovery, int8: ModelRef) -> None:
    stored = json.loads((int8.path / "recovery.json").read_text())
    assert stored["schema_version"] == 1
    assert stored == msgspec.to_builtins(measured)


def test_the_text_is_bounded(base: ModelRef, int8: ModelRef) -> None:
    many = [example(number, length=40) for number in range(20)]  # some 300 tokens each
    numbers = measure_recovery(base, int8, many, STYLE, Silent())
    assert 1500 < numbers.all_text.tokens <= MAX_TOKENS
    [long] = [example(0, length=1000)]  # cut: the answer is beyond the end, so that all text counts
    alone = measure_recovery(base, int8, [long], None, Silent())
    assert (alone.texts, alone.answers, alone.recovery.low) == (1, None, None)
    assert alone.all_text.tokens == MAX_TOKENS - 1
