"""Find the original scan of each pseudonym; no output of the pipeline stores these paths."""

from functools import partial
from pathlib import Path

from pipeline import paths, runtime
from pipeline.errors import UserError
from pipeline.imaging.tables.cohort_table import pseudonymised, read_cohort_table
from pipeline.imaging.tables.pseudonyms import pseudonym, salt_of
from pipeline.imaging.tables.text_table import BadTable
from pipeline.schema import Cohort
from pipeline.stages.cohort.simulate import is_recipe


def original_files(cohort: Cohort) -> dict[str, Path]:
    """Find the path of the original scan of each pseudonym.

    Raises
    ------
    UserError
        If the table of the cohort no longer exists or is no longer valid.
    """
    source = Path(cohort.path)
    if is_recipe(source):
        source = paths.SIMULATED
    salt = salt_of(runtime.keys_folder() / Path(cohort.path).name, cohort.public)
    try:
        table = pseudonymised(read_cohort_table(source), partial(pseudonym, salt))
    except BadTable as error:
        raise UserError(f"cohort.path: {error}") from error
    return {case: source / image for case, image in zip(table["case"], table["image"], strict=True)}
