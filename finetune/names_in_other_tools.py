"""The names that TRL, transformers, PEFT, axolotl and LLaMA-Factory give the settings of
`finetune`.
"""

from __future__ import annotations

_SAME = {
    "rank": ("r", "lora_r", "lora_rank"),
    "alpha": ("lora_alpha",),
    "dropout": ("lora_dropout",),
    "target_modules": ("lora_target_modules", "lora_target", "lora_target_linear"),
    "modules_to_save": ("lora_modules_to_save", "additional_target"),
    "epochs": ("num_train_epochs", "num_epochs", "n_epochs"),
    "max_steps": ("num_steps", "total_steps", "max_train_steps"),
    "learning_rate": ("lr", "base_lr"),
    "schedule": ("lr_scheduler_type", "lr_scheduler", "scheduler"),
    "optimizer": ("optim",),
    "max_grad_norm": ("gradient_clipping", "grad_clip", "max_gradient_norm", "gradient_clip_val"),
    "max_length": (
        "max_seq_length",
        "max_seq_len",
        "sequence_len",
        "cutoff_len",
        "model_max_length",
    ),
    "packing": ("sample_packing", "packing_strategy"),
    "eval_limit": ("max_eval_samples", "eval_max_samples"),
    "eval_steps": ("eval_strategy", "evaluation_strategy", "evals_per_epoch", "eval_every"),
    "limit": ("max_train_samples", "max_samples"),
    "patience": ("early_stopping_patience",),
    "checkpoint_steps": ("save_steps", "save_strategy", "saves_per_epoch"),
    "dtype": ("bf16", "fp16", "torch_dtype", "tf32"),
    "chat_template": ("chat_template_jinja", "chat_template_path", "template"),
    "warm_start": ("init_adapter", "lora_model_dir", "adapter_name_or_path", "resume_from_adapter"),
    "seed": ("random_seed", "random_state", "data_seed"),
    "gradient_checkpointing": ("use_gradient_checkpointing",),
}

_OTHERWISE = {
    "warmup_ratio": "write warmup, a share of the steps",
    "warmup_steps": "write warmup, a share of the steps such as 3%",
    "per_device_train_batch_size": "write batch_size, the examples of a whole step, "
    "and accumulation, its parts",
    "gradient_accumulation_steps": "write accumulation, the parts that batch_size is computed in",
    "load_in_4bit": "write method: qlora",
    "load_in_8bit": "write method: qlora and base_format: int8",
    "use_dora": "write method: dora",
    "use_rslora": "write method: rslora",
    "init_lora_weights": "write method: pissa, or nothing for LoRA's own start",
    "system_prompt": "write prompts: {NAME: {system: ..., user: ...}} and finetune.prompt: NAME",
    "resume_from_checkpoint": "leave it out: "
    "dyno run --resume RUN goes on from the last checkpoint",
    "output_dir": "leave it out: --out names the folder of the run",
    "report_to": "leave it out: training.jsonl and the report hold the curves",
    "logging_steps": "leave it out: about 200 lines of training.jsonl are written over a training",
    "train_on_inputs": "leave it out: the loss covers answers alone, and train_on says which",
    "push_to_hub": "leave it out: the adapter is the folder adapters/finetune of the run, "
    "ready for a hub",
    "export": "leave it out: a variant says merge: finetune or quantize: METHOD",
    "per_device_eval_batch_size": "leave it out: evaluation uses batch_size",
}
_OTHERWISE |= dict.fromkeys(
    ("micro_batch_size", "train_batch_size"), _OTHERWISE["per_device_train_batch_size"]
)
_OTHERWISE |= dict.fromkeys(("eval_batch_size",), _OTHERWISE["per_device_eval_batch_size"])
_OTHERWISE |= dict.fromkeys(
    ("assistant_only_loss", "completion_only_loss"), _OTHERWISE["train_on_inputs"]
)
_OTHERWISE |= dict.fromkeys(("wandb_project", "logging_dir", "use_wandb"), _OTHERWISE["report_to"])
_OTHERWISE |= dict.fromkeys(("save_merged", "save_method"), _OTHERWISE["export"])
_OTHERWISE |= dict.fromkeys(("hub_model_id",), _OTHERWISE["push_to_hub"])

ELSEWHERE = {
    theirs: f"write {ours}" for ours, names in _SAME.items() for theirs in names
} | _OTHERWISE
"""By another trainer's name: what to do here, as the end of a sentence."""
