"""Options of a load on a served URL: the server, what it is asked, and when.

Each has the text that --help prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str,
    typer.Option(
        help="An OpenAI-compatible API, up to /v1, or its whole endpoint; http, https or http+unix."
    ),
]
Model = Annotated[str, typer.Option(help="The name the server knows the model by.")]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        "--rate", help="Open loop: requests/s, Poisson arrivals. Repeatable: each is measured."
    ),
]
Concurrencies = Annotated[
    list[int] | None,
    typer.Option(
        "--concurrency", help="Closed loop: requests kept in flight. Repeatable: each is measured."
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(
        help="Requests (or sessions) measured at each load, all blocks together; 500 if left out. "
        "Warm-up comes on top."
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(
        help="Instead of --requests: how long each load is measured, all blocks together, "
        "such as 60s."
    ),
]
Blocks = Annotated[
    int | None,
    typer.Option(
        help="Into how many blocks a measurement is divided; two runs are compared by their "
        "blocks. 5, or fewer if one would be too short; a trace is replayed once in each.",
        show_default=False,
    ),
]
Warmup = Annotated[
    str | None,
    typer.Option(help="At the start of each block, sent and not counted; 1s if left out."),
]
Prompt = Annotated[str | None, typer.Option(help="One prompt, repeated.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Prompts from JSON, CSV or Parquet; answers in it, if any, are references."),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", help="With --data: a key of its lines or messages to leave out. Repeatable."
    ),
]
Synthetic = Annotated[
    bool, typer.Option("--synthetic", help="Prompts of random words, exactly as long as asked.")
]
ShareGpt = Annotated[
    Path | None, typer.Option(help="Sessions out of ShareGPT JSON, or JSON lines of messages.")
]
Trace = Annotated[
    Path | None,
    typer.Option(
        help="Prompts as long as recorded, at the recorded times unless --rate or --concurrency "
        "says otherwise."
    ),
]
InputTokens = Annotated[
    str | None,
    typer.Option(
        help="With --synthetic: 512, uniform:256:768, normal:512:64 or lognormal:512:0.4."
    ),
]
OutputTokens = Annotated[
    str,
    typer.Option(
        help="The most tokens an answer may have; with --synthetic its exact length, or a "
        "distribution."
    ),
]
CacheHit = Annotated[
    str | None,
    typer.Option(help="With --synthetic: the share of input that a prefix cache should hold."),
]
Prefixes = Annotated[
    int | None, typer.Option(help="With --cache-hit: how many different prefixes.")
]
Turns = Annotated[
    str | None,
    typer.Option(help="Turns of a session: as --input-tokens, or ShareGPT's first ones."),
]
Think = Annotated[
    str | None, typer.Option(help="How long a user waits after an answer, such as 2s.")
]
Speed = Annotated[float, typer.Option(help="With --trace: 2 is twice as fast as recorded.")]
Offset = Annotated[
    str | None, typer.Option(help="With --trace: how much of its beginning to skip, such as 10m.")
]
Length = Annotated[
    str | None, typer.Option(help="With --trace: how much of it to replay, such as 5m.")
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos", help="Answers go on to --output-tokens (vLLM, SGLang, llama.cpp)."
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Seeds arrivals and prompts; sent with every request.")
]
Temperature = Annotated[float | None, typer.Option(help="Sent with every request; 0 if left out.")]
Timeout = Annotated[
    str | None,
    typer.Option(help="An answer that takes longer has failed; 300s, and 60s to its first token."),
]
Slo = Annotated[
    list[str] | None,
    typer.Option(
        "--slo", metavar="METRIC=LIMIT", help="An objective: latency_p95=400ms. Repeatable."
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="A further header; ${KEY} is the environment's KEY. Repeatable.",
    ),
]
ExtraBody = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Further fields of every request, as a JSON object."),
]
CaFile = Annotated[
    Path | None, typer.Option(help="The certificates (PEM) that sign the server's own.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Do not check the server's certificate.")
]
Traces = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        help="Take the server's traces (OTLP) on this port of 127.0.0.1, such as 4318, and say "
        "where in the server the time goes. Prints what the server needs.",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="The model whose tokenizer counts tokens, a folder or hub id; --model's if it is here."
    ),
]
Machines = Annotated[
    str | None,
    typer.Option(
        help="Load from the nodes of a Ray cluster: auto (the one on this machine), HOST:PORT or "
        "ray://HOST:10001."
    ),
]
Api = Annotated[
    str | None, typer.Option(help="chat or completions; what the URL ends in, else chat.")
]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="The environment variable that holds the API key.")
]
Share = Annotated[
    str | None,
    typer.Option(
        "--share",
        metavar="K/N",
        envvar="DYNO_SHARE",
        help="Send every N-th arrival from the K-th (from 1), beside N-1 other hosts; "
        "dyno merge puts the parts together.",
    ),
]
StartAt = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="With --share: when all hosts begin, such as 2026-12-01T10:00:00Z.",
    ),
]
Gap = Annotated[
    str | None,
    typer.Option(
        help="With --share: the time between two blocks, in which answers come in; 10s if left "
        "out.",
    ),
]
