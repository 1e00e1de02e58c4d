"""The model card of an adapter: a README.md for the hub, written from the record."""

from __future__ import annotations

from typing import Any

from finetune.data_report import DataReport

_SETTINGS = (
    "method", "base_format", "rank", "alpha", "dropout", "target_modules", "modules_to_save",
    "warm_start", "epochs", "max_steps", "optimizer", "learning_rate", "schedule", "warmup",
    "weight_decay", "max_grad_norm", "batch_size", "accumulation", "max_length", "packing",
    "prompt", "train_on", "chat_template", "dtype", "seed",
)  # fmt: skip


def text(record: dict[str, Any], report: DataReport) -> str:
    """Markdown with the hub's front matter. `record` is what `tunedyno.json` holds."""
    base, data, config = record["base"], record["data"], record["config"]
    names = [
        name
        for name in _SETTINGS
        if config[name] not in (None, [], ())
        and (name != "base_format" or config["method"] == "qlora")
    ]
    settings = [f"| `{name}` | {config[name]} |" for name in names]
    revision = f" at `{base['revision']}`" if base["revision"] else ""
    return "\n".join(
        [
            "---",
            f"base_model: {base['id']}",
            "library_name: peft",
            "tags: [lora, tunedyno]",
            "---",
            f"# Adapter of {base['id']}",
            "",
            f"Epoch {record['epoch']} of {len(record['heldout_loss']) or record['epoch']}, "
            f"trained by tunedyno {record['versions']['tunedyno']} on {base['id']}{revision} "
            f"(weights {base['fingerprint'][:16]}).",
            "",
            "## Data",
            "",
            f"{report}.",
            "",
            f"SHA-256 of the training examples `{data['train_sha256']}`, "
            f"of the held-out ones `{data['heldout_sha256']}`.",
            "",
            "## Settings",
            "",
            "| | |",
            "|---|---|",
            *settings,
            "",
            "## Scores on the held-out examples",
            "",
            *_scores(record),
            "",
            f"{record['steps']} steps ({record['epochs']:g} epochs), {record['tokens']} tokens "
            f"in {record['seconds']:.0f} s, {record['tokens_per_second']:.0f} tokens/s. "
            f"Made with {', '.join(f'{name} {v}' for name, v in record['versions'].items())}.",
            "",
        ]
    )


def _scores(record: dict[str, Any]) -> list[str]:
    losses, scores = record["heldout_loss"], record["heldout_score"]
    if not losses:
        return ["None were measured."]
    lines = ["| epoch | loss | task score | |", "|---|---|---|---|"]
    for number, loss in enumerate(losses, start=1):
        score = f"{scores[number - 1]:.3f}" if scores else ""
        marks = {"best": record["best_epoch"], "this one": record["epoch"]}
        what = ", ".join(mark for mark, epoch in marks.items() if epoch == number)
        lines.append(f"| {number} | {loss:.4f} | {score} | {what} |")
    return lines
