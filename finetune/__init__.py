"""Examples in, an adapter out: LoRA fine-tuning of a causal LM with peft and TRL.

In: examples, a base model, the section `finetune`. Out: a PEFT adapter in safetensors (one per epoch and the last) and
`training.jsonl`. Start at `data` (how an example becomes prompt and completion tokens), then `train`, then `trainer` (what
makes it fast). Importing this package loads no torch.
"""

from finetune.data import DataReport, check
from finetune.train import TrainingResult, train

__all__ = ["DataReport", "TrainingResult", "check", "train"]
