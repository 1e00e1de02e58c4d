"""What a step of the engine may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimits:
    """The limits of a step, in vLLM's names. Raises ValueError where they can't be kept.

    `kv_blocks` None: no limit. `max_loras` None: no limit.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    kv_blocks: int | None = None
    block_size: int = 16
    chunked_prefill: bool = True
    prefix_caching: bool = False
    max_loras: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "kv_blocks", "block_size", "max_loras"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name}: write 1 or more, not {number}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens: write max_num_seqs ({self.max_num_seqs}) or more, "
                f"not {self.max_num_batched_tokens}"
            )

    def check(self, prompt_tokens: int, output_tokens: int) -> None:
        """Raises ValueError for a request that can never be served."""
        most = prompt_tokens + output_tokens - 1  # the last token is not computed on
        if prompt_tokens < 1 or output_tokens < 1:
            raise ValueError("a request needs a prompt and an answer of at least one token")
        if self.kv_blocks is not None and most > self.kv_blocks * self.block_size:
            room = self.kv_blocks * self.block_size
            raise ValueError(f"{most} tokens do not fit the KV cache of {room} tokens")
        if not self.chunked_prefill and most > self.max_num_batched_tokens:
            raise ValueError(
                f"{most} tokens do not fit a step of {self.max_num_batched_tokens} tokens, "
                "and prompts are not computed in pieces"
            )


VLLM_DEFAULTS = BatchLimits()
