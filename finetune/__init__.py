"""Examples in, an adapter out: LoRA fine-tuning of a causal LM with peft and TRL.

In: JSON lines of examples, a base model, the section `finetune`. Out: a PEFT adapter in safetensors (one per epoch and the
last), `training.jsonl`. Start at `data` (how an example becomes a prompt and its completion), then `train`.
"""
