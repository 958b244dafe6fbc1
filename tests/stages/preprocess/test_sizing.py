import json

import pytest

from pipeline.imaging.geometry import Geometry, reference_passes
from pipeline.imaging.reading.scan import Header
from pipeline.schema import Preprocess
from pipeline.stages.preprocess.sizing import resolve_geometry

HEAD = Header((93, 114, 38), 1, (1.9, 1.9, 4.5), 16)
IMAGE = Header((300, 400), 1, (1.0, 1.0), 8)


def test_a_volume_is_stored_as_finely_as_it_was_scanned():
    geometry = resolve_geometry([HEAD] * 10, 10**9, Preprocess())
    assert (geometry.kind, geometry.image_size, geometry.slices, geometry.channels) == ("volume", 128, 16, 3)
    assert geometry.spacing[0] * geometry.image_size == pytest.approx(114 * 1.9, abs=0.1)
    assert geometry.spacing[2] * geometry.stored_channels == pytest.approx(38 * 4.5, abs=0.1)


def test_the_budget_decides_how_fine_and_is_kept():
    for budget in (20_000, 100_000, 10**6):
        geometry = resolve_geometry([HEAD] * 111, budget, Preprocess())
        assert reference_passes(111, geometry.image_size, geometry.slices) <= budget


def test_more_budget_never_gives_a_coarser_grid():
    sizes = [
        resolve_geometry([IMAGE] * 700, budget, Preprocess()).image_size for budget in (1_000, 30_000, 60_000, 10**6)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == 224


def test_what_the_user_gives_is_taken():
    config = Preprocess(image_size=160, slices=8, spacing=(1.0, 1.0, 2.0), intensity=((0.0, 80.0),), crop="foreground")
    geometry = resolve_geometry([HEAD], 1, config)
    assert (geometry.image_size, geometry.slices, geometry.intensity) == (160, 8, ((0.0, 80.0),))
    assert (geometry.spacing, geometry.crop) == ((1.0, 1.0, 2.0), "foreground")


def test_colour_or_deep_images_make_the_cohort_colour_or_rescaled():
    assert resolve_geometry([IMAGE, Header((9, 9), 4, (1.0, 1.0), 8)], 10**6, Preprocess()).channels == 3
    assert resolve_geometry([IMAGE], 10**6, Preprocess()).intensity == "keep"
    assert resolve_geometry([IMAGE, Header((9, 9), 1, (1.0, 1.0), 16)], 10**6, Preprocess()).intensity == "percentile"


def test_a_mixture_of_volumes_and_images_is_refused():
    with pytest.raises(ValueError, match="mixes volumes and images"):
        resolve_geometry([HEAD, IMAGE], 10**6, Preprocess())


def dicom(modality, bits=16):
    return Header((93, 114, 38), 1, (1.9, 1.9, 4.5), bits, modality)


def test_the_modality_decides_what_becomes_black_and_white():
    def intensity(headers, **config):
        return resolve_geometry(headers, 10**6, Preprocess(**config)).intensity

    assert intensity([dicom("CT")]) == ((-1000.0, 400.0),)
    assert intensity([dicom("MR")]) == intensity([HEAD]) == "percentile"
    assert intensity([HEAD], modality="ct") == ((-1000.0, 400.0),)
    assert intensity([dicom("CT")], modality="mr") == "percentile"
    assert intensity([dicom("CT")], intensity="zscore") == "zscore"
    assert intensity([IMAGE], modality="ct") == "keep"  # somebody has chosen a window already
    assert intensity([Header((9, 9), 1, (1.0, 1.0), 16)], modality="us") == "percentile"


def test_hounsfield_units_are_not_mixed_with_other_values():
    with pytest.raises(ValueError, match="mixes CT"):
        resolve_geometry([dicom("CT"), dicom("MR")], 10**6, Preprocess())
    with pytest.raises(ValueError, match="mixes CT"):
        resolve_geometry([dicom("CT"), HEAD], 10**6, Preprocess())


def test_an_instance_is_a_slab_a_slice_or_a_slice_of_an_isotropic_grid():
    def geometry(**config):
        return resolve_geometry([HEAD], 10**7, Preprocess(**config))

    assert geometry().channels == 3 and geometry().depth == geometry().slices * 3
    flat = geometry(instances="slice")
    assert flat.channels == 1 and flat.depth == flat.slices == 32
    cube = geometry(instances="isotropic")
    assert cube.spacing[0] == cube.spacing[1] == cube.spacing[2]
    assert cube.depth * cube.spacing[2] == pytest.approx(38 * 4.5, abs=2)


def test_several_windows_are_channels_of_a_slice():
    windows = ((-1000.0, 400.0), (-160.0, 240.0), (0.0, 80.0))
    geometry = resolve_geometry([dicom("CT")], 10**6, Preprocess(intensity=windows))
    assert (geometry.channels, geometry.windows, geometry.depth) == (3, 3, geometry.slices)
    slab = resolve_geometry([dicom("CT")], 10**6, Preprocess(intensity=windows, instances="slab"))
    assert (slab.channels, slab.depth) == (9, slab.slices * 3)
    image = resolve_geometry([Header((9, 9), 1, (1.0, 1.0), 16, "CT")], 10**6, Preprocess(intensity=windows))
    assert image.channels == 3


def test_geometry_survives_json():
    geometry = resolve_geometry([HEAD], 10**6, Preprocess(intensity=((-1000.0, 400.0),)))
    assert Geometry.from_json(json.loads(json.dumps(geometry.as_json()))) == geometry
