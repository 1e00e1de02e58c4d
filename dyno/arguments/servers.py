"""The commands that load a server and measure it."""

from __future__ import annotations

from pathlib import Path

import typer

from dyno.commands import flags, load_flags
from foundation.errors import BadInput

servers = typer.Typer()


@servers.command(
    epilog="Examples, each after dyno load --url http://127.0.0.1:8000/v1 --model M:\n\n"
    "--rate 10 --prompt 'Say hello'\n\n"
    "--concurrency 1 --concurrency 8 --concurrency 64 --duration 60s --data eval.jsonl\n\n"
    "--rate 4 --synthetic --input-tokens lognormal:512:0.4 --output-tokens 128 --cache-hit 50%\n\n"
    "--concurrency 8 --sharegpt ShareGPT.json --turns 4 --think 2s\n\n"
    "--trace conversation_trace.jsonl --speed 2\n\n"
    "--rate 10 --prompt Hi --slo latency_p95=400ms --slo error_rate=0.1% --json\n\n"
    "--rate 1 --prompt Hi --header 'api-key: ${AZURE_KEY}' --extra-body '{\"priority\": 1}' "
    "--ca-file ca.pem\n\n"
    "--rate 4 --prompt Hi --traces 4318\n\n"
    "--rate 2k --duration 5m --prompt Hi --share 3/8 --start-at 2026-12-01T10:00:00Z --out part3 "
    "(the third of eight hosts; then: dyno merge part*)\n\n"
    "A load is measured in several blocks, each after a short warm-up, so that dyno compare can "
    "tell two runs apart. HTTP_PROXY, HTTPS_PROXY and NO_PROXY hold."
)
def load(
    url: load_flags.Url,
    model: load_flags.Model,
    rate: load_flags.Rates = None,
    concurrency: load_flags.Concurrencies = None,
    requests: load_flags.Requests = None,
    duration: load_flags.Duration = None,
    blocks: load_flags.Blocks = None,
    warmup: load_flags.Warmup = None,
    prompt: load_flags.Prompt = None,
    data: load_flags.Data = None,
    ignore: load_flags.Ignore = None,
    synthetic: load_flags.Synthetic = False,
    sharegpt: load_flags.ShareGpt = None,
    trace: load_flags.Trace = None,
    input_tokens: load_flags.InputTokens = None,
    output_tokens: load_flags.OutputTokens = "128",
    ignore_eos: load_flags.IgnoreEos = False,
    cache_hit: load_flags.CacheHit = None,
    prefixes: load_flags.Prefixes = None,
    turns: load_flags.Turns = None,
    think: load_flags.Think = None,
    speed: load_flags.Speed = 1.0,
    offset: load_flags.Offset = None,
    length: load_flags.Length = None,
    seed: load_flags.Seed = None,
    temperature: load_flags.Temperature = None,
    timeout: load_flags.Timeout = None,
    slo: load_flags.Slo = None,
    tokenizer: load_flags.Tokenizer = None,
    machines: load_flags.Machines = None,
    api: load_flags.Api = None,
    api_key_env: load_flags.ApiKeyEnv = None,
    header: load_flags.Headers = None,
    extra_body: load_flags.ExtraBody = None,
    ca_file: load_flags.CaFile = None,
    insecure: load_flags.Insecure = False,
    traces: load_flags.Traces = None,
    share: load_flags.Share = None,
    start_at: load_flags.StartAt = None,
    gap: load_flags.Gap = None,
    as_json: flags.Json = False,
    name: flags.Name = "load",
    out: flags.Out = Path("runs"),
) -> None:
    """Load a URL that is already serving, and report the measurement."""
    from dyno.commands.load import (
        LoadShape,
        PromptSource,
        Target,
        load_part,
        load_share,
        load_url,
    )

    target = Target(
        url=url,
        model=model,
        api=api,
        api_key_env=api_key_env,
        headers=header or (),
        extra_body=extra_body,
        ca_file=ca_file,
        insecure=insecure,
        traces=traces,
    )
    source = PromptSource(
        prompt=prompt,
        data=data,
        ignore=ignore or (),
        synthetic=synthetic,
        sharegpt=sharegpt,
        trace=trace,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_hit=cache_hit,
        prefixes=prefixes,
        turns=turns,
        offset=offset,
        length=length,
    )
    shape = LoadShape(
        rates=rate or (),
        concurrencies=concurrency or (),
        requests=requests,
        duration=duration,
        blocks=blocks,
        warmup=warmup,
        think=think,
        speed=speed,
        timeout=timeout,
        seed=seed,
        temperature=temperature,
        ignore_eos=ignore_eos,
        slo=slo or (),
        tokenizer=tokenizer,
        machines=machines,
    )
    if (part := load_part(share, start_at, gap)) is None:
        load_url(target, source, shape, name, out, as_json=as_json)
    elif as_json:
        raise BadInput("--json: a part has no results; write dyno merge PART... --json")
    else:
        load_share(target, source, shape, name, out, part)


@servers.command(
    epilog="Examples:  dyno baseline HuggingFaceTB/SmolLM2-135M-Instruct "
    "--prompt 'Explain quantum computing in simple terms'\n\n"
    "dyno baseline http://127.0.0.1:8000/v1 --model M --prompt Hi --requests 200\n\n"
    "The requests go out one at a time, in several blocks, so that dyno compare can tell two runs "
    "apart."
)
def baseline(
    model_or_url: flags.ModelOrUrl,
    prompt: flags.BaselinePrompt,
    requests: flags.BaselineRequests = 20,
    blocks: load_flags.Blocks = None,
    output_tokens: flags.BaselineTokens = 128,
    seed: load_flags.Seed = None,
    temperature: load_flags.Temperature = None,
    timeout: load_flags.Timeout = None,
    model: flags.ModelAtUrl = None,
    api: load_flags.Api = None,
    api_key_env: flags.KeyAtUrl = None,
    header: load_flags.Headers = None,
    extra_body: load_flags.ExtraBody = None,
    ca_file: load_flags.CaFile = None,
    insecure: load_flags.Insecure = False,
    as_json: flags.Json = False,
    name: flags.Name = "baseline",
    out: flags.Out = Path("runs"),
) -> None:
    """Measure before you tune anything: tokens, latency, TTFT, tokens/s, kept as a run."""
    from dyno.commands.baseline import BaselineRequests, Target, measure_baseline

    target = Target(
        url=model_or_url,
        model=model,
        api=api,
        api_key_env=api_key_env,
        headers=header or (),
        extra_body=extra_body,
        ca_file=ca_file,
        insecure=insecure,
    )
    baseline_requests = BaselineRequests(
        prompt=prompt,
        requests=requests,
        blocks=blocks,
        output_tokens=output_tokens,
        temperature=temperature,
        seed=seed,
        timeout=timeout,
    )
    measure_baseline(target, baseline_requests, name, out, as_json=as_json)


@servers.command(
    epilog="Examples:  dyno search experiment.yaml --max-rate 50   "
    "dyno search runs/news-topics (goes on where it was cut off)\n\n"
    "dyno search --url http://127.0.0.1:8000/v1 --model M --prompt Hi --slo ttft_p95=500ms "
    "--max-rate 50\n\n"
    "Exit code 2: an interval is wider than it should be; 3: no rate keeps the SLO."
)
def search(
    experiment: flags.ExperimentOrRunToSearch = None,
    url: flags.UrlToSearch = None,
    model: flags.ModelAtUrl = None,
    max_rate: flags.MaxRate = None,
    max_time: flags.MaxSearchTime = None,
    no_live: flags.NoLive = False,
    slo: load_flags.Slo = None,
    prompt: load_flags.Prompt = None,
    data: load_flags.Data = None,
    synthetic: load_flags.Synthetic = False,
    input_tokens: load_flags.InputTokens = None,
    output_tokens: load_flags.OutputTokens = "128",
    api_key_env: flags.KeyAtUrl = None,
    name: flags.Name = "search",
    out: flags.Out = Path("runs"),
) -> None:
    """Search for the highest rate that keeps the SLO: one that holds and one that fails."""
    from dyno.commands.search import PromptSource, SearchFlags, Target, search_file, search_url

    search_flags = SearchFlags(max_rate=max_rate, max_time=max_time, live=not no_live)
    if (experiment is None) == (url is None):
        raise BadInput("name an experiment file or a run, or write --url")
    if experiment is not None:
        if slo or model or prompt or data or synthetic:
            raise BadInput(
                "--slo, --model and the flags about prompts go with --url; an experiment has its "
                "own sections"
            )
        code = search_file(experiment, out, search_flags)
    elif url is not None:
        if model is None:
            raise BadInput("with --url, write --model: the name its server knows the model by")
        if not slo:
            raise BadInput(
                "with --url, write --slo: what each request must keep, such as --slo ttft_p95=500ms"
            )
        target = Target(url=url, model=model, api_key_env=api_key_env)
        source = PromptSource(
            prompt=prompt,
            data=data,
            synthetic=synthetic,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        code = search_url(target, source, slo or (), search_flags, name, out)
    if code:
        raise typer.Exit(code)


@servers.command(
    epilog="Examples:  dyno calibrate-model runs/news-topics --variant int8   "
    "dyno calibrate-model --url http://127.0.0.1:8000/v1 --model M --max-time 60s"
)
def calibrate_model(
    experiment: flags.ModelledFile = None,
    variant: flags.Variant = None,
    url: flags.ModelledUrl = None,
    model: flags.ModelAtUrl = None,
    tokenizer: load_flags.Tokenizer = None,
    api: load_flags.Api = None,
    api_key_env: flags.KeyAtUrl = None,
    max_time: flags.ModelTime = "3m",
    name: flags.Name = "model",
    out: flags.Out = Path("runs"),
) -> None:
    """Measure what an engine step takes, so that plans hold at loads that were not measured.

    Each load is the one that tells most of what is still unknown; no verdict depends on any.
    """
    from dyno.commands.calibrate_model import Target, calibrate_run, calibrate_url

    if url is not None and experiment is None:
        target = Target(url=url, model=model, api=api, api_key_env=api_key_env)
        calibrate_url(target, tokenizer, max_time, name, out)
    elif experiment is not None and url is None:
        calibrate_run(experiment, variant or (), max_time, out)
    else:
        raise BadInput(
            "name an experiment or a run, or the URL of a server: dyno calibrate-model RUN, "
            "dyno calibrate-model --url http://HOST/v1 --model M"
        )
