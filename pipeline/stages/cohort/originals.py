"""Find the original scan of each pseudonym; no output of the pipeline stores these paths."""

from collections.abc import Iterator
from pathlib import Path

from pipeline import paths, runtime
from pipeline.errors import UserError
from pipeline.imaging.tables.cohort_table import MASK, image_in, read_cohort_table
from pipeline.imaging.tables.pseudonyms import PUBLIC_SALT, pseudonym, salt_of
from pipeline.imaging.tables.text_table import BadTable
from pipeline.schema import Cohort
from pipeline.stages.cohort.keys import key_errors, key_folders
from pipeline.stages.cohort.simulation.recipe import is_recipe


def original_files(cohort: Cohort) -> dict[str, Path]:
    """Find the path of the original scan of each pseudonym.

    Raises
    ------
    UserError
        If the table of the cohort no longer exists or is no longer valid, or no salt gives the pseudonyms of the stage
        `cohort`.
    """
    return _original(cohort, "image")


def original_masks(cohort: Cohort) -> dict[str, Path]:
    """Find the path of the original mask of each pseudonym that has one; raise UserError as `original_files` does."""
    if MASK not in paths.read_table(paths.CASES):
        return {}
    return _original(cohort, MASK)


def _original(cohort: Cohort, column: str) -> dict[str, Path]:
    source = Path(cohort.path)
    wanted = set(paths.read_table(paths.CASES)["case"])
    folder = paths.SIMULATED if is_recipe(source) else source
    try:
        table = read_cohort_table(folder)
    except BadTable as error:
        raise UserError(f"cohort.path: {error}") from error
    for salt in [PUBLIC_SALT] if cohort.public else _salts(source):
        names = zip(table["case_id"].tolist(), table[column].tolist(), strict=True)
        renamed = {pseudonym(salt, "case", case): name for case, name in names}
        if wanted <= renamed.keys():
            return {case: image_in(folder, name) for case, name in renamed.items() if name or column != MASK}
    raise UserError(
        f"cohort.path: {source} lacks cases of {paths.CASES}, or {runtime.keys_folder()} lacks its salt; "
        "run `dvc repro`, or set MEDADAPT_KEYS to the folder that was used"
    )


def _salts(cohort: Path) -> Iterator[bytes]:
    for folder in key_folders(cohort):
        if (folder / "salt").exists():
            with key_errors():
                salt = salt_of(folder, public=False)
            yield salt
