"""The API server's process. Like vLLM, it binds its port at once and listens with its engine.

$FAKE_VLLM_DIES is "VARIANT:N": the server of that variant exits at its Nth chat. $FAKE_VLLM_BREAKS
names a variant whose server does not start. $FAKE_VLLM_SHARES names one whose server lets others
listen on its port, like some releases of vLLM.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG = "(APIServer pid={pid}) {level} 11-21 22:44:45 [fake.py:1] {words}"


def log(level: str, words: str) -> None:
    print(LOG.format(pid=os.getpid(), level=level, words=words), flush=True)


class Engine:
    """One question at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vllm.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def token(self) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            try:
                self._process.stdin.write("go\n")
                self._process.stdin.flush()
                answer = self._process.stdout.readline().strip()
            except OSError:
                answer = ""
        if not answer:
            log(
                "ERROR",
                "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
            )
            os._exit(1)
        return answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    engine: Engine
    dies_at = 0
    chats = 0

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, b"")
        elif self.path == "/metrics":
            self._send(200, b"vllm:num_requests_running 0\nvllm:num_requests_waiting NaN\n")
        else:
            self._send(404, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self._send(401, b"{}")
        elif body.get("stream"):
            self._stream(body)
        else:
            word = self.engine.token()
            choice = {
                "index": 0,
                "text": word,
                "message": {"content": word},
                "finish_reason": "length",
            }
            self._send(200, json.dumps({"choices": [choice]}).encode())

    def _stream(self, body: dict[str, object]) -> None:
        Handler.chats += 1
        if Handler.chats == self.dies_at:
            log("ERROR", "RuntimeError: the wheels came off")
            os._exit(1)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        for choice in (
            {"delta": {"content": self.engine.token()}},
            {"delta": {}, "finish_reason": "stop"},
        ):
            self._event(json.dumps({"choices": [{"index": 0, **choice}]}))
            time.sleep(0.01)
        self._event(json.dumps({"choices": [], "usage": usage}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name", nargs="+")
    args, _ = parser.parse_known_args()
    name, _, count = os.environ.get("FAKE_VLLM_DIES", "").partition(":")
    if name in args.served_model_name:
        Handler.dies_at = int(count)
    log("INFO", "start-up chatter")
    server = ThreadingHTTPServer((args.host, args.port), Handler, bind_and_activate=False)
    server.daemon_threads = True
    if os.environ.get("FAKE_VLLM_SHARES") in args.served_model_name:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.server_bind()
    if os.environ.get("FAKE_VLLM_BREAKS") in args.served_model_name:
        raise ValueError("this model is broken")
    Handler.engine = Engine()
    server.server_activate()
    log("INFO", f"Starting vLLM server on http://{args.host}:{args.port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
