"""Answer scans one by one with a released bundle, as `predict` does, for commands that keep running."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.bundle.dicom_results.model import Model, model_of
from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.masks import needs_of
from pipeline.bundle.opening import Opened, open_bundle
from pipeline.bundle.predictor import Prediction, Predictor
from pipeline.bundle.scoring import BadModel
from pipeline.bundle.transforms import PrepareScand
from pipeline.bundle.zipped import unpacked
from pipeline.commands.dicom_objects import Objects, objects_of
from pipeline.commands.drawings import Drawing, Overlays
from pipeline.commands.numbers import refuse_number
from pipeline.commands.results import Row, row_of
from pipeline.commands.site_files import settings_of, with_site_files
from pipeline.errors import UserError
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.tables.scan_list import Listed


@dataclass(frozen=True)
class Answered:
    """The result of a scan: the prediction, its row of the table, and what a person looks at."""

    scan: Listed
    found: Prediction
    row: Row
    drawing: Drawing | None


@dataclass(frozen=True)
class Answering:
    """A released model in use.

    Attributes
    ----------
    bundle : Opened
        Its folder may be gone; what is needed of it is loaded.
    predictor : Predictor
    overlays : Overlays
    model : Model
    steps : Preprocessor
    site : str
        Of all scans; "" if the model has no values of its own for sites.
    """

    bundle: Opened
    predictor: Predictor
    overlays: Overlays
    model: Model
    steps: Preprocessor
    site: str = ""

    def __call__(self, scan: Listed) -> Answered:
        """Predict a scan, and draw it with its map if it is answered."""
        scan = replace(scan, known={**({"site": self.site} if self.site else {}), **scan.known})
        found = self.predictor(scan.file, scan.known.get("site"))
        drawing = self.overlays.draw(scan, found.output, found.probabilities is not None) if found.output else None
        return Answered(scan, found, row_of(scan, found, self.predictor), drawing)

    def objects_of(self, one: Answered) -> Objects:
        """Write the DICOM objects of an answer; raise NoSource if nothing can refer to its scan."""
        return objects_of(one.scan, one.found, one.drawing, model=self.model, steps=self.steps)


@contextmanager
def answering(arguments: argparse.Namespace, command: str) -> Iterator[Answering]:
    """Open the bundle of a command's options `bundle`, `site`, `adaptation`, `calibration` and `max_size`.

    The name of the command is for its refusals.

    Raises
    ------
    UserError
        If the bundle cannot be used, or does not know the site.
    """
    try:
        with unpacked(Path(arguments.bundle), arguments.max_size) as folder:
            bundle = open_bundle(folder)
            refuse_columns(bundle)
            refuse_number(bundle, command)
            check_site(arguments.site, bundle.sites)
            predictor = with_site_files(Predictor.from_opened(bundle), bundle, arguments)
            yield Answering(
                bundle=bundle,
                predictor=predictor,
                overlays=Overlays(bundle),
                model=model_of(bundle, settings_of(arguments)),
                steps=PrepareScand(**bundle.preparation).steps,
                site=arguments.site or "",
            )
    except (BrokenBundle, BadModel) as error:
        raise UserError(str(error)) from error


def refuse_columns(bundle: Opened) -> None:
    """Refuse a model that takes masks or columns besides the scan, where only scans are read."""
    masks = needs_of(PrepareScand(**bundle.preparation).steps, bundle.fusion)
    if masks.any:
        raise UserError(
            f"the model takes a mask of each scan ({masks.words}), and this command reads scans alone; use "
            "`medadapt predict BUNDLE SCANS --masks FOLDER`"
        )
    if bundle.fusion:
        raise UserError(
            f"the model takes the columns {', '.join(bundle.fusion.names)} besides the scan, and this command reads "
            "scans alone; use `medadapt predict BUNDLE SCANS --inputs TABLE.csv`"
        )


def check_site(site: str | None, known: Sequence[str]) -> None:
    """Reject a site that the model does not know; if it needs a site and none is given, say what follows."""
    if site and known and site not in known:
        raise UserError(f"--site: the model does not know '{site}'; choose one of {', '.join(known)}")
    if site and not known:
        raise UserError(f"--site {site}: the model has no separate parameters for sites; leave --site out")
    if known and not site:
        print(f"no --site given: scans whose site is not one of {', '.join(known)} use the values for unknown sites")
