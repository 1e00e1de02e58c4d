"""What makes two blocks of tokens the same: the words up to a block's end, and the adapter."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from loadgen.emulator.kv_cache import BlockKeys


def keys_of_words(
    prompt: Sequence[str], answer: Sequence[str], block_size: int, salt: Hashable
) -> BlockKeys:
    """Keys of the blocks of a prompt and its answer, a word a token.

    They differ from those of the same words under another `salt`.
    """
    chain: list[Hashable] = []

    def key(block: int) -> Hashable:
        while len(chain) <= block:
            begin = len(chain) * block_size
            words = tuple(prompt[begin : begin + block_size])
            if missing := block_size - len(words):
                first = max(0, begin - len(prompt))
                words += tuple(answer[first : first + missing])
            chain.append(hash((chain[-1] if chain else salt, words)))
        return chain[block]

    return key


def keys_of_prefix(prefix: Hashable, prefix_tokens: int, number: int, block_size: int) -> BlockKeys:
    """Keys of a request whose first `prefix_tokens` are those of every request with `prefix`.

    No other request shares the rest with the request of this number.
    """
    shared = prefix_tokens // block_size

    def key(block: int) -> Hashable:
        return (prefix, block) if block < shared else (number, block, "own")

    return key
