import pytest

from pipeline.imaging.labels import renamed
from pipeline.stages.cohort.importers.found import BadSource, Case, Import
from pipeline.stages.cohort.importers.renames import Renames


def test_a_rename_without_an_equals_sign_is_refused():
    with pytest.raises(BadSource, match="OLD=NEW"):
        Renames(["healthy"])
    assert Renames(["St Mary=A", "0=a=b"]) == {"St Mary": "A", "0": "a=b"}


@pytest.mark.parametrize("labels", [["0", "1"], ["1;?0"], ["?0", "", "1;1"], ["0;1"]])
def test_names_that_some_label_has_are_met_and_others_refused(labels):
    rename = Renames(["0=well", "1=ill", "Ill=ill"])
    found = Import(cases=[Case({"label": renamed(label, rename)}, {}) for label in labels])
    with pytest.raises(BadSource, match=r"nothing is called 'Ill'; correct or remove it \(labels: .*ill.*\)"):
        rename.refuse_unmet(found)
    del rename["Ill"]
    rename.refuse_unmet(found)


def test_a_whole_label_of_several_names_is_met():
    rename = Renames(["a;b=both"])
    assert renamed("a;b", rename) == "both"
    rename.refuse_unmet(Import())
