"""Train several folds in parallel, on this machine or through SLURM.

The result is the same as with `dvc repro`, which trains one fold after the other. The number of threads affects the
last digits; set OMP_NUM_THREADS to reproduce the same bytes.
"""

import argparse

STAGES = ("adapt", "finetune")
LAUNCHERS = ("local", "slurm", "dummy")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folds", nargs="*", metavar="FOLD", help="names from split.folds (default: all)")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        help="stages to run; the other one keeps its present outputs (default: adapt finetune)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="number of folds in parallel (default: one per GPU, else one per core with 3 GiB of memory; all on SLURM)",
    )
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="local: processes on this machine; slurm: jobs as set by MEDADAPT_SLURM_*; dummy: only print the "
        "commands (default: local)",
    )
