"""Fine-tunes a causal LM with LoRA, by peft and TRL, and prunes layers of a base.

In: examples, a base model, the section `finetune`. Out: a PEFT adapter in safetensors (the best
epoch's and each one's), `training.jsonl`, a data report, a model card. Start at `job` and `data`
(how an example becomes prompt and completion tokens), then `train` and `build`, then `trainer`
(what makes it fast); `launch` does the same in several processes. Importing this loads no torch.
"""

from finetune.data import check
from finetune.data_report import DataReport
from finetune.job import TrainingJob
from finetune.prune import prune
from finetune.train import TrainingResult, train

__all__ = ["DataReport", "TrainingJob", "TrainingResult", "check", "prune", "train"]
