"""List the adaptation methods by their names in params.yaml.

| family | what it does | methods |
|---|---|---|
| statistics | takes normalisation statistics from the new images | `adabn`, `adabn_per_site` |
| harmonisation | maps grey values, or features, of all sites to one scale | `nyul`, `histogram`, `combat` |
| alignment losses | are added to the loss of fine-tuning to align sites | `coral`, `mmd`, `dann`, `mcc` |
| objectives | continue the pretraining of the encoder without labels | `simclr`, `vicreg`, `byol`, `masked` |

Each statistics method, ComBat and each objective has a file in `methods/`. Test-time adaptation to single cases
(`learning/models/tent.py`) can be combined with any method. Alignment losses are in `learning/training/alignment`.
"""

from collections.abc import Callable

from pipeline.learning.models.encoder import Encoder
from pipeline.stages.adapt.methods.byol import Byol
from pipeline.stages.adapt.methods.masked import Masked
from pipeline.stages.adapt.methods.simclr import SimClr
from pipeline.stages.adapt.methods.vicreg import VicReg
from pipeline.stages.adapt.pretraining.objective import Objective

HARMONISERS = ("nyul", "histogram")  # they change grey values, ComBat changes features
PER_SITE = ("adabn_per_site", "combat")  # the network needs to know the site of a case
OBJECTIVES: dict[str, Callable[[Encoder, int, int], Objective]] = {  # encoder, input channels, rows of an image
    "simclr": lambda encoder, channels, size: SimClr(encoder),
    "vicreg": lambda encoder, channels, size: VicReg(encoder),
    "byol": lambda encoder, channels, size: Byol(encoder),
    "masked": Masked,
}
