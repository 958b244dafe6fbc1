"""The rule by which series of a study or an archive are answered."""

from collections.abc import Collection
from dataclasses import dataclass

MODALITIES = {"volume": ("CT", "MR", "NM", "PT"), "image": ("CR", "DX", "ES", "GM", "IO", "MG", "OP", "SM", "US", "XC")}


@dataclass(frozen=True)
class Rule:
    """Which series are answered.

    Attributes
    ----------
    modalities : collection of str
    description : str
        Text that the description holds, in any case; "" for any description.
    since : str
        Earliest date of a study, e.g. "20261101"; "" for any date.
    """

    modalities: Collection[str]
    description: str = ""
    since: str = ""

    def objection(self, modality: str, description: str = "", date: str = "") -> str:
        """Say why a series is left out; "" if it is to be answered.

        >>> Rule(["MR"]).objection("SR")
        'modality SR is not one of MR'
        """
        if modality and modality not in self.modalities:
            return f"modality {modality} is not one of {', '.join(self.modalities)}"
        if self.description.casefold() not in description.casefold():
            return f"its description does not hold '{self.description}'"
        if date and self.since and date < self.since:
            return f"its study is older than {self.since}"
        return ""


def rule_of(modality: str | None, description: str | None, kind: str, since: str = "") -> Rule:
    """Read the rule of --modality and --description; by default every modality of the model's kind is answered."""
    modalities = (modality or ",".join(MODALITIES[kind])).upper().split(",")
    return Rule([one.strip() for one in modalities], description or "", since)
