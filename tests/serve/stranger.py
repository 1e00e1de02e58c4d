"""A process of somebody else that wants a port of ours."""

from __future__ import annotations

import socket
import threading


class Stranger:
    """Listens on a port of ours as soon as it is let, and writes down whatever it is sent."""

    def __init__(self, port: int) -> None:
        self.heard = b""
        self._socket = socket.socket()
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 1)
        self._socket.bind(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        self._socket.listen()
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                self.heard += client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
