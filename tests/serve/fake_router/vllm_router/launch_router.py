"""Passes each request to the next of its workers, and the answer back."""

from __future__ import annotations

import argparse
import itertools
import os
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PassingHandler(BaseHTTPRequestHandler):
    turns: itertools.cycle[str]

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes | None) -> None:
        if b"the last straw" in (body or b""):
            os._exit(3)
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
        request = urllib.request.Request(
            next(self.turns) + self.path, body, {k: v for k, v in headers.items() if v}
        )
        with urllib.request.urlopen(request) as answer:
            content = answer.read()
            self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--worker-urls", nargs="+")
    args, _ = parser.parse_known_args()
    PassingHandler.turns = itertools.cycle(args.worker_urls)
    print("router up", flush=True)
    ThreadingHTTPServer((args.host, args.port), PassingHandler).serve_forever()


if __name__ == "__main__":
    main()
