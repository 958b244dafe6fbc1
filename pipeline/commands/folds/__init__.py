"""Train several folds at a time, on this machine or through SLURM."""

import argparse

STAGES = ("adapt", "finetune")
LAUNCHERS = ("local", "slurm", "dummy")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folds", nargs="*", metavar="FOLD", help="names of split.folds (default: all of them)")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        help="stages to run; the outputs of the other one are used as they are (default: adapt finetune)",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="folds at a time (default: one per GPU, all on SLURM)")
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="local: processes here; slurm: jobs as MEDADAPT_SLURM_* say; dummy: print the commands (default: local)",
    )
