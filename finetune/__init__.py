"""Examples in, an adapter out: LoRA fine-tuning of a causal LM with peft and TRL; and a base with fewer layers (`prune`).

In: examples, a base model, the section `finetune`. Out: a PEFT adapter in safetensors (the best epoch's and each one's),
`training.jsonl`, a data report, a model card. Start at `data` (how an example becomes prompt and completion tokens), then `train`
and `build`, then `trainer` (what makes it fast); `launch` is the same in several processes. Importing this loads no torch.
"""

from finetune.data import check
from finetune.data_report import DataReport
from finetune.prune import prune
from finetune.train import TrainingResult, train

__all__ = ["DataReport", "TrainingResult", "check", "prune", "train"]
