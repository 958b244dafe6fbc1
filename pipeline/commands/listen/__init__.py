"""Answer new studies of an archive (DICOMweb) or of a folder, and store the results beside them.

Asks the archive for new series, predicts those that match the rule, and stores a structured report and, for an answer,
the saliency map in the same study. Each series is answered or refused once; the ledger records it, with pseudonyms.
The command may be stopped or killed at any time and started again. A folder is watched without a server; its results
go to --results.
MEDADAPT_ARCHIVE_USER and MEDADAPT_ARCHIVE_PASSWORD, or MEDADAPT_ARCHIVE_TOKEN, hold the credentials. The certificate of
the archive is always verified; REQUESTS_CA_BUNDLE names the authority of a hospital. Research use only.

For example:
  medadapt listen model.zip --archive https://pacs.example/dicom-web --ledger ledger/ --modality MR --since 2026-11-01
  medadapt listen model.zip --watch inbox/ --results results/ --ledger ledger/ --once
"""

import argparse

from pipeline.commands.bundle_options import add_max_size, add_rule, add_site


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="a released bundle")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--archive", metavar="URL", help="root of a DICOMweb server, e.g. https://pacs.example/dicom-web"
    )
    place.add_argument("--watch", metavar="FOLDER", help="answer the scans that appear in this folder instead")
    parser.add_argument("--results", metavar="FOLDER", help="with --watch: write the DICOM objects to this folder")
    parser.add_argument("--ledger", metavar="FOLDER", required=True, help="folder of the ledger; keep it")
    add_rule(parser)
    parser.add_argument("--since", metavar="DATE", help="answer only studies from this date on, e.g. 2026-11-01")
    parser.add_argument(
        "--every",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time between two queries (default: 30); a series that grew in this time is still arriving",
    )
    parser.add_argument("--once", action="store_true", help="end when every series is answered or refused")
    add_site(parser)
    add_max_size(parser)
