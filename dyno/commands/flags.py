"""The flags of `dyno load` and `dyno baseline`: what each is called, and what --help says of it."""

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
        help="Requests (or sessions) measured at each load, all blocks together; 500 if left out. Warm-up comes on top."
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(
        help="Instead of --requests: how long each load is measured, all blocks together, such as 60s."
    ),
]
Blocks = Annotated[
    int | None,
    typer.Option(
        help="Into how many blocks a measurement is divided: what two runs are compared by. 5, or fewer where one would be too "
        "short; a trace is replayed once in each.",
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
    typer.Option(
        help="Prompts from JSON, CSV or Parquet; their answers, where they have some, are references."
    ),
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
        help="Prompts as long as recorded, at the recorded times unless --rate or --concurrency says."
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
        help="The most tokens an answer may have; with --synthetic exactly so many, or a distribution."
    ),
]
CacheHit = Annotated[
    str | None,
    typer.Option(help="With --synthetic: the share of input a prefix cache should know."),
]
Prefixes = Annotated[
    int | None, typer.Option(help="With --cache-hit: how many different beginnings.")
]
Turns = Annotated[
    str | None,
    typer.Option(help="Turns of a session: as --input-tokens, or ShareGPT's first so many."),
]
Think = Annotated[
    str | None, typer.Option(help="How long a user waits after an answer, such as 2s.")
]
Speed = Annotated[float, typer.Option(help="With --trace: 2 is twice as fast as recorded.")]
Offset = Annotated[
    str | None, typer.Option(help="With --trace: its beginning that is skipped, such as 10m.")
]
Length = Annotated[
    str | None, typer.Option(help="With --trace: how much of it is taken, such as 5m.")
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos", help="Answers go on to --output-tokens (vLLM, SGLang, llama.cpp)."
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Of arrivals and prompts, and sent with every request.")
]
Temperature = Annotated[float | None, typer.Option(help="Sent with every request; 0 if left out.")]
Timeout = Annotated[
    str | None,
    typer.Option(help="An answer that takes longer has failed; 300s, and 60s to its first token."),
]
Slo = Annotated[
    list[str] | None,
    typer.Option(
        "--slo", metavar="METRIC=LIMIT", help="What is promised: latency_p95=400ms. Repeatable."
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
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="The model whose tokenizer counts, a folder or hub id; --model's where it is found here."
    ),
]
Api = Annotated[
    str | None, typer.Option(help="chat or completions; what the url ends in, else chat.")
]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="The environment variable that holds the API key.")
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the results as JSON, and nothing else, on standard output."),
]
Name = Annotated[str, typer.Option(help="The run's name.")]
