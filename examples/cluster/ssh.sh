#!/usr/bin/env bash
# One load from several hosts over ssh; what follows -- is for dyno load on all of them:
#   examples/cluster/ssh.sh host1 host2 host3 -- --url http://server:8000/v1 --model my-model \
#     --rate 300 --duration 60s --prompt "Say hello" --output-tokens 64
# Every host has the same version of dyno, a clock that NTP keeps, and was calibrated (dyno calibrate).
# The load begins after LEAD seconds, 60 if left out.
set -euo pipefail

hosts=()
while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
  hosts+=("$1")
  shift
done
if [ "$#" = 0 ] || [ "${#hosts[@]}" = 0 ]; then
  echo "ssh.sh: write HOST... -- and the options of dyno load" >&2
  exit 3
fi
shift # the --
parts=tunedyno-$(date -u +%Y%m%dT%H%M%SZ)
# One start for all. Until then, each host starts dyno, reads its prompts and warms the server up.
start=$(date -u -d "+${LEAD:-60} seconds" +%Y-%m-%dT%H:%M:%SZ)

sending=()
for i in "${!hosts[@]}"; do
  share=$((i + 1))/${#hosts[@]}
  printf -v command '%q ' dyno load "$@" --share "$share" --start-at "$start" --out "$parts"
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
