"""The inner loop of the simulator: engines that batch continuously, many steps at a time.

All compiled functions are in this file: numba compiles anew where the file of a function changed,
not where another file did.
"""

from __future__ import annotations

from math import exp, inf, isnan, log, sqrt

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats, Ints
from results.capacity.demand.demand import NOBODY
from results.capacity.simulation.cluster import Cluster
from results.capacity.simulation.compiled import compiled

NIL = NOBODY
"""No job, prefix, adapter or replica. A job that does not decode is due at step `NIL`."""
NEVER = 1 << 60
RUNNING, WAITING = 0, 1
LEAST_GAP, GAP_WIDTH, GAP_BINS = log(1e-7), 0.001, 27_632
"""Gaps are counted in bins of 0.1 % from 0.1 us to a day, with their sums."""


@compiled
def link(c: Cluster, place: int, i: int, last: int) -> None:
    """Puts a job at the end (`last` 1) or the beginning (0) of a list."""
    neighbour = c.ends[place, last]
    c.jobs[i]["before"] = neighbour if last else NIL
    c.jobs[i]["after"] = NIL if last else neighbour
    if neighbour == NIL:
        c.ends[place, 1 - last] = i
    elif last:
        c.jobs[neighbour]["after"] = i
    else:
        c.jobs[neighbour]["before"] = i
    c.ends[place, last] = i


@compiled
def unlink(c: Cluster, place: int, i: int) -> None:
    """Takes a job out of a list."""
    before, after = c.jobs[i]["before"], c.jobs[i]["after"]
    if before == NIL:
        c.ends[place, 0] = after
    else:
        c.jobs[before]["after"] = after
    if after == NIL:
        c.ends[place, 1] = before
    else:
        c.jobs[after]["before"] = before


@compiled
def entry_of(prefixes: NDArray[np.void], key: int) -> int:
    """The place of a prefix of an engine in the hash table, a new one if need be."""
    mask = len(prefixes) - 1
    place = (int(key) * 2_654_435_761) & mask
    while prefixes[place]["key"] != NIL and prefixes[place]["key"] != key:
        place = (place + 1) & mask
    prefixes[place]["key"] = key
    return place


@compiled
def tokens_of(job: np.void, step: int) -> int:
    """Tokens of a running job in the KV cache."""
    if job["due"] == NIL:
        return int(job["computed"])
    return int(job["input"] + job["output"] - 1 - (job["due"] - step))


@compiled
def wanted(c: Cluster, job: np.void, before: int, after: int) -> int:
    """Blocks that a job needs to grow from `before` to `after` tokens."""
    old, new = -(-before // c.rules.block), -(-after // c.rules.block)
    shared = job["shared"]
    if shared == 0:
        return new - old
    held = c.prefixes[job["entry"]]["held"]
    own = max(new - shared, 0) - max(old - shared, 0)
    return int(own + max(min(new, shared) - held, 0))


@compiled
def take(c: Cluster, engine: np.void, job: np.void, before: int, after: int) -> None:
    """Gives a job the blocks that it needs. Its full blocks of a prefix are known from now on."""
    engine["free"] -= wanted(c, job, before, after)
    if job["shared"] > 0:
        prefix, block = c.prefixes[job["entry"]], c.rules.block
        prefix["held"] = max(prefix["held"], min(-(-after // block), job["shared"]))
        prefix["known"] = max(prefix["known"], min(after // block, job["shared"]))


@compiled
def release(c: Cluster, r: int, i: int) -> None:
    """Takes a running job out of its engine, and frees its blocks."""
    engine, job = c.engines[r], c.jobs[i]
    tokens = tokens_of(job, engine["step"])
    if job["due"] != NIL:
        engine["kv"] -= tokens
        engine["decoding"] -= 1
    engine["free"] += max(-(-tokens // c.rules.block) - job["shared"], 0)
    if job["shared"] > 0:
        prefix = c.prefixes[job["entry"]]
        prefix["users"] -= 1
        if prefix["users"] == 0:
            engine["free"] += prefix["held"]
            prefix["held"] = 0
    if c.rules.loras > 0 and job["adapter"] != NIL:
        c.adapters[r, job["adapter"]] -= 1
        engine["loras"] -= c.adapters[r, job["adapter"]] == 0
    engine["running"] -= 1
    engine["blocked"] = 0
    unlink(c, 2 * r + RUNNING, i)


@compiled
def preempt(c: Cluster, r: int) -> None:
    """Puts the last running job back to the head of the queue: it will compute all tokens again."""
    engine, i = c.engines[r], c.ends[2 * r + RUNNING, 1]
    job = c.jobs[i]
    release(c, r, i)
    if job["due"] != NIL:
        job["prompt"] = job["input"] + job["output"] - (job["due"] - engine["step"])
        job["token_at"] = engine["clock"]
        job["due"] = NIL
    job["computed"] = 0
    job["preemptions"] += 1
    if engine["partial"] == i:
        engine["partial"] = NIL
    link(c, 2 * r + WAITING, i, 0)
    engine["waiting"] += 1


@compiled
def make_room(c: Cluster, r: int) -> bool:
    """Blocks for the next tokens of running jobs. Whether that preempted one."""
    engine, i, preempted = c.engines[r], c.ends[2 * r + RUNNING, 0], False
    while i != NIL:
        job = c.jobs[i]
        before = tokens_of(job, engine["step"])
        after = before + 1
        if job["due"] == NIL:
            after = min(job["prompt"], before + c.rules.budget - engine["decoding"])
        while wanted(c, job, before, after) > engine["free"]:
            victim = c.ends[2 * r + RUNNING, 1]
            preempt(c, r)
            preempted = True
            if victim == i:
                return True
        take(c, engine, job, before, after)
        i = job["after"]
    return preempted


@compiled
def may_enter(c: Cluster, r: int, job: np.void) -> bool:
    """Whether a waiting job's adapter has a place in the next step."""
    if c.rules.loras == 0 or job["adapter"] == NIL:
        return True
    return bool(c.adapters[r, job["adapter"]] > 0 or c.engines[r]["loras"] < c.rules.loras)


@compiled
def cached_tokens(c: Cluster, r: int, job: np.void) -> int:
    """Tokens of a waiting job that the prefix cache has; at least one is left to compute."""
    if job["prefix"] == NIL:
        return 0
    job["shared"] = min(job["prefix_blocks"], (job["prompt"] - 1) // c.rules.block)
    job["entry"] = entry_of(c.prefixes, job["prefix"] * len(c.engines) + r)
    return int(min(c.prefixes[job["entry"]]["known"], job["shared"])) * c.rules.block


@compiled
def enter(c: Cluster, r: int, i: int, cached: int, after: int) -> None:
    """Moves a waiting job to the running ones, with `after` tokens in the cache after the step."""
    engine, job = c.engines[r], c.jobs[i]
    unlink(c, 2 * r + WAITING, i)
    link(c, 2 * r + RUNNING, i, 1)
    engine["waiting"] -= 1
    engine["running"] += 1
    take(c, engine, job, 0, after)
    if job["shared"] > 0:
        c.prefixes[job["entry"]]["users"] += 1
    if c.rules.loras > 0 and job["adapter"] != NIL:
        engine["loras"] += c.adapters[r, job["adapter"]] == 0
        c.adapters[r, job["adapter"]] += 1
    job["computed"] = after
    if isnan(job["scheduled"]):
        job["scheduled"] = engine["clock"]
    if after < job["prompt"]:
        engine["partial"] = i


@compiled
def admit(c: Cluster, r: int, budget: int) -> tuple[int, float]:
    """Admits waiting jobs in order. Returns their prompt tokens in this step, and pairs."""
    engine, i = c.engines[r], c.ends[2 * r + WAITING, 0]
    tokens, pairs = 0, 0.0
    while i != NIL and tokens < budget and engine["running"] < c.rules.seqs:
        job = c.jobs[i]
        following = job["after"]
        if may_enter(c, r, job):
            cached = cached_tokens(c, r, job)
            new = job["prompt"] - cached
            if (not c.rules.chunked and new > budget - tokens) or (
                wanted(c, job, 0, job["prompt"]) > engine["free"]
            ):
                break
            new = min(new, budget - tokens)
            enter(c, r, i, cached, cached + new)
            tokens += new
            pairs += new * (cached + new / 2)
        i = following
    return tokens, pairs


@compiled
def answer_prompts(c: Cluster, r: int) -> None:
    """A token for every job whose whole prompt the step has computed; they are the last ones."""
    engine, i = c.engines[r], c.ends[2 * r + RUNNING, 1]
    while i != NIL and c.jobs[i]["due"] == NIL:
        job = c.jobs[i]
        if job["computed"] == job["prompt"]:
            left = job["output"] - (job["prompt"] - job["input"]) - 1
            job["due"] = engine["step"] + left
            engine["soonest"] = min(engine["soonest"], job["due"])
            engine["decoding"] += 1
            engine["kv"] += job["prompt"]
            if isnan(job["first"]):
                job["first"] = engine["clock"]
            elif engine["clock"] > c.rules.settled:
                count_gaps(c.gaps, engine["clock"] - job["token_at"], 0.0, 1, 1)
        i = job["before"]


@compiled
def end_jobs(c: Cluster, r: int) -> None:
    """Ends the jobs whose last token the last step has made."""
    engine, i = c.engines[r], c.ends[2 * r + RUNNING, 0]
    engine["soonest"] = NEVER
    while i != NIL:
        job = c.jobs[i]
        following = job["after"]
        if job["due"] == engine["step"]:
            job["last"] = engine["clock"]
            release(c, r, i)
            engine["ending"] += 1
        elif job["due"] != NIL:
            engine["soonest"] = min(engine["soonest"], job["due"])
        i = following


@compiled
def count_gaps(gaps: Floats, first: float, rise: float, steps: int, jobs: int) -> None:
    """Counts the tokens of steps that take `first` s, then `rise` s more each; each is a gap."""
    while steps > 0 and jobs > 0:
        place = int((log(first) - LEAST_GAP) / GAP_WIDTH) if first > 1e-7 else 0
        place = min(place, GAP_BINS - 1)
        some = steps
        if rise > 0:
            edge = exp(LEAST_GAP + (place + 1) * GAP_WIDTH)
            some = min(steps, int(max(edge - first, 0.0) / rise) + 1)
        gaps[0, place] += jobs * total_time(first, rise, some)
        gaps[1, place] += jobs * some
        first += rise * some
        steps -= some


@compiled
def total_time(first: float, rise: float, steps: int) -> float:
    """Seconds of steps of which each takes `rise` s more than the one before."""
    return steps * first + rise * (steps * (steps - 1) / 2)


@compiled
def steps_within(span: float, first: float, rise: float, most: int) -> int:
    """How many of `most` steps begin in less than `span` s from now."""
    if total_time(first, rise, most - 1) < span:
        return most
    slope = first - rise / 2
    if rise > 0:
        steps = int((sqrt(slope * slope + 2 * rise * span) - slope) / rise)
    else:
        steps = int(span / first)
    while total_time(first, rise, steps) < span:
        steps += 1
    while steps > 0 and total_time(first, rise, steps - 1) >= span:
        steps -= 1
    return steps


@compiled
def growth(c: Cluster, r: int, steps: int) -> int:
    """Blocks that the running jobs need for so many steps of decoding."""
    step, block = c.engines[r]["step"], c.rules.block
    i, blocks = c.ends[2 * r + RUNNING, 0], 0
    while i != NIL:
        tokens = tokens_of(c.jobs[i], step)
        blocks += (tokens + steps + block - 1) // block - (tokens + block - 1) // block
        i = c.jobs[i]["after"]
    return blocks


@compiled
def steps_with_room(c: Cluster, r: int, most: int) -> int:
    """How many of `most` steps of decoding the free blocks suffice for; takes those blocks."""
    engine = c.engines[r]
    low, high, blocks = 0, most, growth(c, r, most)
    if blocks > engine["free"]:
        while high - low > 1:
            middle = (low + high) // 2
            if growth(c, r, middle) <= engine["free"]:
                low = middle
            else:
                high = middle
        blocks = growth(c, r, low)
    else:
        low = most
    engine["free"] -= blocks
    return low


@compiled
def slowness(c: Cluster, r: int) -> float:
    """The factor on the time of a step of all running jobs."""
    return float(c.rules.factor) if c.engines[r]["running"] > c.rules.above else 1.0


@compiled
def token_time(c: Cluster, decoding: int, prompts: int) -> float:
    """Seconds of a step's requests that decode and of its prompt tokens."""
    rules, tokens = c.rules, decoding + prompts
    if rules.free < 0:
        return float(rules.per_decode * decoding + rules.per_prefill_token * prompts)
    taken = max(tokens - rules.free, 0)
    return float((rules.per_decode * decoding / max(tokens, 1) + rules.per_prefill_token) * taken)


@compiled
def decode_time(c: Cluster, r: int) -> float:
    """Seconds of the next step if it only decodes."""
    engine, rules = c.engines[r], c.rules
    decoding = engine["decoding"]
    return slowness(c, r) * float(
        rules.fixed + token_time(c, decoding, 0) + rules.per_kv_token * engine["kv"]
    )


@compiled
def decode_rise(c: Cluster, r: int) -> float:
    """Seconds that each step takes more than the one before it, while all jobs decode."""
    return slowness(c, r) * float(c.rules.per_kv_token * c.engines[r]["decoding"])


@compiled
def after_steps(c: Cluster, r: int, elapsed: float, rise: float, steps: int, prompts: int) -> None:
    """Moves an engine on by `steps` steps, the first of `elapsed` s, with `prompts` tokens."""
    engine = c.engines[r]
    decoding = engine["decoding"]
    if engine["clock"] >= c.rules.settled:
        count_gaps(c.gaps, elapsed, rise, steps, decoding)
    engine["clock"] += total_time(elapsed, rise, steps)
    engine["step"] += steps
    engine["kv"] += decoding * steps
    engine["ending"] = 0
    held = 0 if engine["partial"] == NIL else c.jobs[engine["partial"]]["computed"]
    engine["most_decodes"] = max(engine["most_decodes"], decoding)
    engine["most_prefill"] = max(engine["most_prefill"], prompts)
    engine["most_kv"] = max(engine["most_kv"], engine["kv"] + held)


@compiled
def jump(c: Cluster, r: int, until: float) -> bool:
    """Steps of pure decoding up to the next event. Whether there was room for one."""
    engine, rules = c.engines[r], c.rules
    elapsed, rise = decode_time(c, r), decode_rise(c, r)
    if engine["clock"] < rules.settled:
        until = min(until, rules.settled)
    most = engine["soonest"] - engine["step"]
    steps = steps_within(until - engine["clock"], elapsed, rise, most)
    if rules.limited:
        steps = steps_with_room(c, r, steps)
    if steps == 0:
        return False
    after_steps(c, r, elapsed, rise, steps, 0)
    return True


@compiled
def mixed_step(c: Cluster, r: int) -> None:
    """One step: running jobs, then the prompt in progress, then waiting jobs."""
    engine, rules = c.engines[r], c.rules
    partial_before = engine["partial"]
    preempted = make_room(c, r)
    tokens, pairs = 0, 0.0
    if engine["partial"] != NIL:
        job = c.jobs[engine["partial"]]
        before = job["computed"]
        tokens = min(job["prompt"] - before, rules.budget - engine["decoding"])
        job["computed"] = before + tokens
        pairs = tokens * (before + tokens / 2)
        if job["computed"] == job["prompt"]:
            engine["partial"] = NIL
    if not preempted:
        more, more_pairs = admit(c, r, rules.budget - engine["decoding"] - tokens)
        engine["blocked"] = more == 0 and partial_before == NIL
        tokens, pairs = tokens + more, pairs + more_pairs
    decoding = engine["decoding"]
    of_tokens = token_time(c, decoding, tokens) - token_time(c, decoding, 0)
    elapsed = decode_time(c, r) + slowness(c, r) * (of_tokens + rules.per_pair * pairs)
    after_steps(c, r, elapsed, 0.0, 1, tokens)
    answer_prompts(c, r)


@compiled
def advance(c: Cluster, r: int, until: float) -> None:
    """Every step of an engine that begins before `until`."""
    engine = c.engines[r]
    while engine["clock"] < until and engine["running"] + engine["waiting"] > 0:
        decodes = engine["running"] > 0 and engine["partial"] == NIL
        no_entry = engine["waiting"] == 0 or engine["blocked"] != 0
        if not (decodes and no_entry and jump(c, r, until)):
            mixed_step(c, r)
        if engine["soonest"] <= engine["step"]:
            end_jobs(c, r)


@compiled
def arrive(c: Cluster, r: int, i: int) -> None:
    """A job comes to the queue of an engine that has done all steps before."""
    engine, moment = c.engines[r], c.jobs[i]["queued"]
    if engine["running"] + engine["waiting"] == 0 and engine["clock"] < moment:
        engine["clock"], engine["ending"] = moment, 0
    if engine["waiting"] == 0 or c.rules.loras > 0:
        engine["blocked"] = 0
    link(c, 2 * r + WAITING, i, 1)
    engine["waiting"] += 1


@compiled
def watch(c: Cluster, r: int, moment: float) -> None:
    """Counts an engine's jobs at a moment, and until when the count can't fall."""
    engine = c.engines[r]
    inside = engine["running"] + engine["waiting"]
    ending = engine["ending"] if engine["clock"] >= moment else 0
    c.seen[r] = inside + ending
    mixed = engine["partial"] != NIL or (engine["waiting"] > 0 and engine["blocked"] == 0)
    if ending > 0 or mixed:
        c.wake[r] = engine["clock"]
    elif inside == 0:
        c.wake[r] = inf
    else:
        rise, steps = decode_rise(c, r), engine["soonest"] - engine["step"]
        c.wake[r] = engine["clock"] + total_time(decode_time(c, r), rise, steps)


@compiled
def least_loaded(c: Cluster, serving: int, moment: float) -> int:
    """The first of the `serving` engines that have the fewest jobs."""
    best = 0
    for r in range(serving):
        if c.wake[r] < moment:
            advance(c, r, moment)
            watch(c, r, moment)
        if c.seen[r] < c.seen[best]:
            best = r
    return best


@compiled
def run(c: Cluster, serving: Ints) -> None:
    """Brings every job to its engine, and runs the engines to the end.

    `serving` (n,): how many engines a job may choose from that has none yet.
    """
    for i in range(len(c.jobs)):
        job = c.jobs[i]
        r, moment = job["replica"], job["queued"]
        if serving[i] > 0:
            r = least_loaded(c, serving[i], moment)
            job["replica"] = r
        advance(c, r, moment)
        arrive(c, r, i)
        if serving[i] > 0:
            watch(c, r, moment)
    for r in range(len(c.engines)):
        advance(c, r, inf)
