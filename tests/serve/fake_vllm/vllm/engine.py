"""The engine's process: an answer a line. Like vLLM's, it leaves a socket and shared memory."""

from __future__ import annotations

import socket
import sys
import tempfile
import uuid
from multiprocessing import shared_memory


def main() -> None:
    held = socket.socket(socket.AF_UNIX)
    held.bind(f"{tempfile.gettempdir()}/{uuid.uuid4()}")
    memory = shared_memory.SharedMemory(create=True, size=4096)
    print(memory.name, flush=True)
    for _ in sys.stdin:
        print("yes", flush=True)


if __name__ == "__main__":
    main()
