"""The objectives of pretraining on textures."""

from pipeline.stages.adapt.methods.byol import Byol
from pipeline.stages.adapt.methods.masked import Masked
from pipeline.stages.adapt.methods.simclr import SimClr
from pipeline.stages.adapt.methods.vicreg import VicReg
from tests.stages.adapt.methods.textures import (
    SIZE,
    maps_of_patches,
    tiny,
)

OBJECTIVES = {
    "simclr": SimClr,
    "vicreg": VicReg,
    "byol": Byol,
    "masked": lambda encoder: Masked(encoder, channels=3, size=SIZE, patch=32 if len(encoder.stages) > 3 else 8),
}


PARTS = {name: tiny if name != "masked" else maps_of_patches for name in OBJECTIVES}
