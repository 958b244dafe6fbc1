"""Declare the options that the commands of a released bundle share."""

import argparse


def add_max_size(parser: argparse.ArgumentParser) -> None:
    """Declare --max-size."""
    parser.add_argument(
        "--max-size",
        type=float,
        default=2.0,
        metavar="GIB",
        help="reject a zipped bundle that unpacks to more than this (default: 2 GiB)",
    )


def add_site(parser: argparse.ArgumentParser) -> None:
    """Declare --site, --adaptation and --calibration of commands that answer as `predict` does."""
    parser.add_argument("--site", help="site of the scans; needed by a model with separate parameters for each site")
    parser.add_argument("--adaptation", metavar="FILE.json", help="apply limits that `predict --site-adapt` wrote")
    parser.add_argument(
        "--calibration", metavar="FILE.json", help="apply a recalibration that `predict --site-recalibrate` wrote"
    )


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Declare --modality and --description of commands that choose among the series of a study."""
    parser.add_argument(
        "--modality",
        metavar="CODES",
        help="modalities to answer, e.g. MR or CT,PT (default: those of the model's kind)",
    )
    parser.add_argument("--description", metavar="TEXT", help="answer only series whose description holds this text")
