"""A project whose label is a number: the side of a bright square in the image, in mm."""

import numpy as np
import pandas as pd
from PIL import Image

from tests.stages.clinic import RAW


def write_squares(folder, patients=36, seed=0):
    """Squares of 4 to 24 pixels; the site called outside is darker; every fourth patient has two images."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        site = ["inside", "next door", "outside"][patient % 3]
        side = int(rng.integers(4, 25))
        for image in range(1 + (patient % 4 == 0)):
            shading = np.kron(rng.normal(0, 25, (5, 6)), np.ones((8, 8)))  # so that no two images look alike
            pixels = rng.normal(60 if site == "outside" else 90, 15, (40, 48)) + shading
            row, column = rng.integers(0, 40 - side), rng.integers(0, 48 - side)
            pixels[row : row + side, column : column + side] += 110
            name = f"Doe_{patient:02d}_{image}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            rows.append((name, f"Jane Doe {patient}", name, f"{side:.2f}", site, "test" if site == "outside" else ""))
    table = pd.DataFrame(rows, columns=["case_id", "patient_id", "image", "label", "site", "split"])
    table.to_csv(folder / "cohort.csv", index=False)
    return table


def as_regression(project, patients=36, **changes):
    """Turn the project of the fixture into one of numbers; return its root."""
    write_squares(project() / RAW, patients)
    return project(**(without_classes("regression", "mm") | changes))


def without_classes(task, unit):
    """Give settings of a task without classes, which are trained in seconds."""
    known = {"task": task, "unit": unit, "classes": [], "positive": None}
    values = {f"cohort__{key}": value for key, value in known.items()}
    values |= {"calibrate__method": "auto", "finetune__strategy": "portfolio", "finetune__members": ["probe", "full"]}
    values |= {"finetune__full": {"epochs": 3, "sides": [32]}, "release__name": "side_of_squares"}
    return values | {"release__description": "Side of a square."}
