"""The adaptation methods that `adapt@k` applies, by their names in params.yaml, and all families in one table.

| family | what it does | methods |
|---|---|---|
| statistics | takes the normalisation statistics of the new images | `adabn`, `adabn_per_site` |
| harmonisation | maps grey values, or features, of all sites to one scale | `nyul`, `histogram`, `combat` |
| terms (`terms.py`) | are added to the loss of fine-tuning, to draw sites together | `coral`, `mmd`, `dann`, `mcc` |
| objectives | train the encoder on, without labels | `simclr`, `vicreg`, `byol`, `masked` |

Each is a file of `methods/`. Adaptation to every single case at test time, `methods/tent.py`, goes with any of them.
"""

from collections.abc import Callable

from pipeline.learning.models.encoder import Encoder
from pipeline.stages.adapt.methods.byol import Byol
from pipeline.stages.adapt.methods.masked import Masked
from pipeline.stages.adapt.methods.simclr import SimClr
from pipeline.stages.adapt.methods.vicreg import VicReg
from pipeline.stages.adapt.pretraining.objective import Objective

HARMONISERS = ("nyul", "histogram")  # of grey values; combat is of features
PER_SITE = ("adabn_per_site", "combat")  # a network that needs to know where a case comes from
OBJECTIVES: dict[str, Callable[[Encoder, int, int], Objective]] = {  # of the encoder, its channels, rows of an image
    "simclr": lambda encoder, channels, size: SimClr(encoder),
    "vicreg": lambda encoder, channels, size: VicReg(encoder),
    "byol": lambda encoder, channels, size: Byol(encoder),
    "masked": Masked,
}
