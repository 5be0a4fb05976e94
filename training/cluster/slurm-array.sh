#!/bin/bash
# A family over the machines of a SLURM cluster, a tier a task. From a folder that holds the recipe, 0 to the number of
# alphas (the first task is the base, which the others wait for):
#
#   RECIPE=recipe.yaml OUT=/shared/run sbatch --array=0-5 slurm-array.sh
#
# OUT is on a disk that all machines see. The last task to end writes the report. A task that was stopped
# or has failed goes on with the same command.
#SBATCH --job-name=alphatier
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
: "${RECIPE:?is the recipe to train: RECIPE=recipe.yaml OUT=/shared/run sbatch ...}"
: "${OUT:?is the folder that all machines see: RECIPE=recipe.yaml OUT=/shared/run sbatch ...}"

# Every tier has samples of its own: samples-base, samples-alpha-0, ...
mapfile -t tiers < <(alphatier train "$RECIPE" --out "$OUT" --list-stages --json |
  sed -n 's/.*"stage": "samples-\(.*\)".*/\1/p')
tier=${tiers[${SLURM_ARRAY_TASK_ID:?is set by sbatch --array}]:-}
if [[ -z $tier ]]; then
  echo "Task $SLURM_ARRAY_TASK_ID has no tier: the recipe has ${#tiers[@]}, so --array=0-$((${#tiers[@]} - 1))." >&2
  exit 1
fi
exec alphatier train "$RECIPE" --out "$OUT" --tier "$tier"
