"""`python -m benchmarks.fuzz.harness TARGET CORPUS -runs=N ...`: one target under atheris.

It takes libFuzzer's own flags and needs atheris (requirements/fuzz.lock). A crash is an exception
that no target expects; its input is left in a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["loadgen", "results", "foundation"]):
    from benchmarks.fuzz.targets import TARGETS

SEEDS = {
    "sse": [
        b'\x00data: {"a": 1}\n\n',
        b"\x03event: x\r\ndata: 1\rdata: 2\r\n\r\n",
        b"\x05data: {}\ndata: {}\ndata: [DONE]\n",
    ],
    "reply": [
        b'\x00data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
        b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], '
        b'"usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
        b"data: [DONE]\n\n",
        b'\x07data: {"choices": [{"text": "a", "finish_reason": "length"}], '
        b'"metrics": {"x": 1.5}}\n\ndata: [DONE]\n\n',
        b'\x09data: {"error": {"message": "died"}}\n\n',
    ],
    "chunked": [b"\x005\r\nabcde\r\n0\r\n\r\n", b"\x04a;x=1\r\n0123456789\r\n0\r\nX: y\r\n\r\n"],
    "head": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close",
        b"HTTP/1.0 503 \r\nContent-Length: 7",
    ],
    "compressed": [
        b"\x00\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x04\x00\x43\xbe\xb7\xe8\x01\x00\x00\x00"
    ],
    "journal": [
        b'{"schema_version":1,"variant":"v","stage":"s","block":1,"seed":0,"transport":"socket","clock":"kernel",'
        b'"origin_monotonic_ns":1,"origin_unix_ns":1,"model":"m","prompt_style":"plain","api":"chat","arrivals":"poisson",'
        b'"offered_rate":1.5,"concurrency":null,"planned":2,"window_start_ns":0,"window_end_ns":9,"workers":1,"receiver":null}\n'
        b'{"id":1,"prompt_id":"q","scheduled_ns":3,"sent_ns":4,"chunk_ns":[5,6],"chunk_tokens":[1,1],"done_ns":20,"status":200,'
        b'"finish_reason":"stop","failure":null,"error":null,"input_tokens":5,"output_tokens":2,"tokens_from":"server","text":"ab",'
        b'"server_metrics":{"x":1.5},"client_lag_ns":[1,1],"shared_tokens":null,"cached_tokens":null,"notes":["no_done"]}\n'
        b'{"end":"complete","ended_ns":9,"window_end_ns":9,"loop_stall_max_ns":0,"client_cpu_s":0.1,"clock_step_ns":0}\n'
    ],
    "engine_record": [
        b'{"kind":"start","schema_version":1,"source":"vLLM 0.32.0","monotonic_ns":1,"unix_ns":1}\n'
        b'{"kind":"request","key":"0000000000000001000000000000000a","finished_ns":9,'
        b'"in_server_ns":8,"queued_ns":1,"prefill_ns":2,"decode_ns":3,"input_tokens":5,'
        b'"output_tokens":2,"cached_tokens":0,"preemptions":0}\n'
        b'{"kind":"step","ended_ns":9,"elapsed_ns":2,"context_requests":1,"context_tokens":5,'
        b'"generation_requests":0,"generation_tokens":0,"running":1,"waiting":0}\n'
    ],
    "trace": [
        b'{"timestamp": 250, "input_length": 40, "output_length": 6, "hash_ids": [1, 2]}\n'
        b'{"timestamp": 500, "text_input": "x"}\n',
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
        b"2023-11-16 18:17:04Z,3,8\n",
        b"Timestamp,Model,Request tokens,Response tokens\n5,GPT-4,472,18\n5.5,GPT-4,1.0,0\n",
        b'{"at": 1}\n{"at": 2.5, "session_id": "a"}\n{"session_id": "a", "delay": 3}\n',
    ],
    "examples": [
        b'\x00{"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", '
        b'"content": "A"}]}\n',
        b'\x01[{"instruction": "I", "input": "X", "output": "A"}, {"prompt": "Q", '
        b'"completion": 1.0}]',
        b'\x02prompt,completion\nQ,A\n"Q\nQ","A ""A"""\n',
        b"\x03prompt\tcompletion\nQ\tA\n",
    ],
    "conversations": [
        b'[{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, '
        b'{"messages": []}]'
    ],
    "prompts": [
        b'{"id":"q","set":"eval","messages":{"plain":[{"role":"user","content":"x"}]},"reference":"y"}\n'
    ],
}


def main() -> None:
    """Hands one target to libFuzzer."""
    name, corpus, *flags = sys.argv[1:]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS.get(name, [bytes(range(60))])):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *flags, str(folder)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
