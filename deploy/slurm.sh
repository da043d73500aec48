#!/bin/bash
# A study on eight nodes with eight GPUs each: sbatch deploy/slurm.sh faces
# Ray is started on every node; the command runs on the first, and its workers on all.
#SBATCH --job-name=diffex
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --requeue
set -euo pipefail
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_USAGE_STATS_ENABLED=0
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    env RAY_ADDRESS=auto diffex run "$1" --workers "$((8 * SLURM_JOB_NUM_NODES))"
