"""The labelled cases of a training: at the freeze boundary, and as images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.learning.training.cases import FrozenCases, WholeCases


@dataclass(frozen=True)
class Labelled:
    """The cases of a training.

    Attributes
    ----------
    train : FrozenCases
    validation : FrozenCases or None
        At the same freeze boundary; no patient is in both. None if the training does not stop early.
    patients : (n,) str
        Patient of each training case.
    whole : callable
        Returns training and validation cases as images, for a strategy that trains every stage.
    """

    train: FrozenCases
    validation: FrozenCases | None
    patients: NDArray[np.str_]
    whole: Callable[[], tuple[WholeCases, WholeCases | None]]

    def only(self, rows: NDArray[np.int64]) -> "Labelled":
        """Select training cases; the validation cases stay."""

        def fewer() -> tuple[WholeCases, WholeCases | None]:
            train, validation = self.whole()
            return train.some(rows), validation

        return replace(self, train=self.train.some(rows), patients=self.patients[rows], whole=fewer)

    def standardised(self, mean: float, scale: float) -> "Labelled":
        """Replace the numbers y of a regression by (y - mean) / scale."""

        def rescaled(some: Any) -> Any:
            return replace(some, targets=(some.targets - mean) / scale) if some is not None else None

        def whole() -> tuple[WholeCases, WholeCases | None]:
            train, validation = self.whole()
            return rescaled(train), rescaled(validation)

        return replace(self, train=rescaled(self.train), validation=rescaled(self.validation), whole=whole)
