#!/usr/bin/env bash
# One load from several hosts over ssh:
#   examples/cluster/ssh.sh http://server:8000/v1 my-model host1 host2 host3
# Every host has the same version of dyno, a clock that NTP keeps, and was calibrated (dyno calibrate).
set -euo pipefail

url=$1 model=$2
shift 2
hosts=("$@")
parts=tunedyno-$(date -u +%Y%m%dT%H%M%SZ)
# One start for all. Until then, each host starts dyno, reads its prompts and warms the server up.
start=$(date -u -d "+${LEAD:-60} seconds" +%Y-%m-%dT%H:%M:%SZ)

sending=()
for i in "${!hosts[@]}"; do
  printf -v command '%q ' dyno load --url "$url" --model "$model" \
    --rate "${RATE:-100}" --duration "${DURATION:-60s}" --prompt "${PROMPT:-Say hello}" --output-tokens 64 \
    --share "$((i + 1))/${#hosts[@]}" --start-at "$start" --out "$parts"
  ssh -n "${hosts[i]}" "$command" &
  sending+=($!)
done
for i in "${!hosts[@]}"; do
  wait "${sending[i]}" || echo "${hosts[i]}: dyno ended with $?" >&2
done

# What a host has written counts, also where it ended early. The merge says what is lost.
for host in "${hosts[@]}"; do
  ssh -n "$host" "tar -cf - $parts" | tar -xf - || echo "$host: its part could not be fetched" >&2
done
dyno merge --partial "$parts"
