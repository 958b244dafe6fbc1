"""Duplicates among real images: lungs in disguise, and those of COVID-CT."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.stages.split.leakage import (
    findings,
)
from pipeline.stages.split.partition import Leak, refuse_leaks
from tests.conftest import shared
from tests.stages.split.pairs import cohort, pairs


def letterboxed(image, edge=128):
    grey = image.convert("RGBA").convert("RGB").convert("L")
    grey.thumbnail((edge, edge), Image.Resampling.BILINEAR)
    frame = Image.new("L", (edge, edge))
    frame.paste(grey, ((edge - grey.width) // 2, (edge - grey.height) // 2))
    return np.asarray(frame)


def as_jpeg(image, quality=75):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def as_coarse_jpeg(image):
    return as_jpeg(image, quality=20)


def rescaled(image):
    smaller = image.resize((round(0.8 * image.width), round(0.8 * image.height)), Image.Resampling.BICUBIC)
    return smaller.resize(image.size, Image.Resampling.BICUBIC)


def brighter(image):
    return image.point(lambda value: min(255, value + 25))


def windowed(image):
    return image.point(lambda value: round(min(max((value - 40) * 255 / 150, 0), 255)))


def noisy(image):
    values = np.asarray(image) + np.random.default_rng(0).normal(0, 10, (image.height, image.width))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def lungs():
    return [Image.open(file).convert("L") for file in sorted(shared("luna_slices").glob("*.png"))]


def test_lungs_of_different_people_are_no_copies(lungs):
    found = findings(*cohort([letterboxed(image) for image in lungs]))
    assert len(set(found["case"]) | set(found["other"])) <= 0.01 * len(lungs)


@pytest.mark.parametrize("disguise", [as_jpeg, as_coarse_jpeg, rescaled, brighter, windowed, noisy])
def test_disguised_copies_of_lungs_are_found(lungs, disguise):
    chosen = range(0, len(lungs), 10)
    images = [letterboxed(image) for image in [*lungs, *(disguise(lungs[n]) for n in chosen)]]
    found = findings(*cohort(images))
    assert pairs(found) == {(f"c{n:03d}", f"c{len(lungs) + k:03d}") for k, n in enumerate(chosen)}
    assert set(found["check"]) <= {"near duplicate", "exact duplicate"}


def test_images_in_both_classes_of_covid_ct_are_found():
    folder = shared("covid_ct")
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    images = [letterboxed(Image.open(folder / file)) for file in table["file"]]
    side = np.where(table["split"] == "test", "test", "development")
    cases, signatures = cohort(images, list(table["patient"]), label=table["label"], side=side)
    found = findings(cases, signatures)
    file = dict(zip(cases["case"], table["file"].str.split("/").str[-1], strict=True))
    worst = found[(found["labels"] == "contradict") & (found["across"] == "train/test boundary")]
    assert {(file[one], file[other]) for one, other in pairs(worst)} == {
        ("kjr-21-e24-p5-29.png", "71%0.jpg"),
        ("kjr-21-e24-p5-31.png", "71%1.jpg"),
    }
    assert len(found) < 0.02 * len(cases)


def test_the_13_patients_of_covid_ct_on_both_sides_are_found_by_name():
    table = pd.read_csv(shared("covid_ct") / "labels.csv", dtype=str)
    with pytest.raises(Leak) as refused:
        refuse_leaks(table.assign(side=np.where(table["split"] == "test", "test", "development")), [])
    assert len(refused.value.patients) == 13
    others = table[table["split"] != "test"]
    where = [set(others.loc[others["patient"] == patient, "split"]) for patient in refused.value.patients]
    assert sum("train" in splits for splits in where) == 11 and sum("val" in splits for splits in where) == 2
