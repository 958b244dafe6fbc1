"""Cases with signatures, and the pairs that are found among them."""

import pandas as pd

from pipeline.imaging.preparation.fingerprint import perceptual_hash, read_signatures, signature, voxel_hash


def cohort(images, patients=None, **columns):
    """Fingerprint (H, W) uint8 images as the pipeline does."""
    names = [f"c{n:03d}" for n in range(len(images))]
    cases = pd.DataFrame({"case": names, "patient": patients or [f"p{n:03d}" for n in range(len(images))]})
    cases["voxel_hash"] = [voxel_hash(image[None]) for image in images]
    cases["perceptual_hash"] = [perceptual_hash(image[None]) for image in images]
    cases = cases.assign(**{"site": "s", "label": "", "side": "development", **columns})
    return cases, read_signatures([signature(image[None]) for image in images])


def pairs(found):
    return set(zip(found["case"], found["other"], strict=True))
