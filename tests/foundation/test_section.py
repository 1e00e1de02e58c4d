"""What is said of a key that is none."""

from __future__ import annotations

import pytest

from finetune.config import FinetuneConfig
from foundation.section import Section, nearest, unknown_key
from loadgen.config import Sampling, Stage, TraceReplay
from loadgen.dataset_config import Recording, Synthetic


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("ranks", "(did you mean 'rank'?)"),
        ("lerning_rate", "(did you mean 'learning_rate'?)"),
        ("eval_step", "(did you mean 'eval_steps'?)"),
        ("lora_r", "; write rank"),
        ("lora_alpha", "; write alpha"),
        ("num_train_epochs", "; write epochs"),
        ("max_seq_length", "; write max_length"),
        ("lr_scheduler_type", "; write schedule"),
        ("optim", "; write optimizer"),
        ("save_steps", "; write checkpoint_steps"),  # and not eval_steps, which looks like it
        ("warmup_steps", "; write warmup, a share of the steps"),
        ("micro_batch_size", "; write batch_size, the examples of a whole step, and accumulation"),
        ("gradient_accumulation_steps", "; write accumulation, the parts"),
        ("resume_from_checkpoint", "; leave it out: dyno run --resume RUN"),
        ("report_to", "; leave it out: training.jsonl"),
        ("system_prompt", "; write prompts:"),
        ("neftune_noise_alpha", " (known: accumulation, alpha,"),
        ("train_on_everything", " (known: accumulation, alpha,"),
    ],
)
def test_a_key_that_is_none_leads_to_one_of_its_meaning(key: str, words: str) -> None:
    message = unknown_key(key, FinetuneConfig)
    assert message.startswith("unknown key") and words in message
    assert ("did you mean" in message) == ("did you mean" in words)


@pytest.mark.parametrize("section", [Stage, Recording, TraceReplay, Synthetic, Sampling])
def test_the_names_of_other_load_generators_lead_to_ours(section: type[Section]) -> None:
    ours = section.model_fields.keys() | ({"speed"} if section is Recording else set())
    assert section.elsewhere and not set(section.elsewhere) & ours
    for theirs, words in section.elsewhere.items():
        assert (
            words.removeprefix("write ") in ours
            and unknown_key(theirs, section) == f"unknown key; {words}"
        )


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("eval_steps", ["eval_limit", "epochs"], None),
        ("down", ["down_proj", "up_proj"], "down_proj"),
        ("max", ["max_length", "max_steps"], None),
        ("fsat", ["fast", "slow"], "fast"),
        ("", ["a"], None),
    ],
)
def test_only_a_slip_or_a_beginning_is_near(word: str, known: list[str], hint: str | None) -> None:
    assert nearest(word, known) == (
        f" (did you mean {hint!r}?)" if hint else f" (known: {', '.join(sorted(known))})"
    )
