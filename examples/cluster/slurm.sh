#!/usr/bin/env bash
#SBATCH --job-name=tunedyno
#SBATCH --array=1-4
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --time=00:30:00
#SBATCH --output=tunedyno-%A-%a.log
# One load from the nodes of a Slurm array, into a folder that all of them see:
#   export URL=http://server:8000/v1 MODEL=my-model
#   export START_AT=$(date -u -d '+10 minutes' +%Y-%m-%dT%H:%M:%SZ)
#   job=$(sbatch --parsable examples/cluster/slurm.sh)
#   sbatch --dependency=afterany:"$job" --wrap "dyno merge --partial tunedyno-$job"
# Every task must run before START_AT. One that the queue lets in later refuses to send, and the
# merge says what is lost.
set -euo pipefail

dyno calibrate # a minute; it is kept in the user's cache
exec dyno load --url "$URL" --model "$MODEL" \
  --rate 400 --duration 60s --prompt "Say hello" --output-tokens 64 \
  --share "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --start-at "$START_AT" \
  --out "tunedyno-$SLURM_ARRAY_JOB_ID"
