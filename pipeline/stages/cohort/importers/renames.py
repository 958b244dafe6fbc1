"""Read the new names of labels and sites that `import --rename` gives, and tell which of them nothing has."""

from collections.abc import Sequence

from pipeline.stages.cohort.importers.found import BadSource, Import


class Renames(dict[str, str]):
    """New names by old ones; `met` holds the old names that occurred in the data."""

    def __init__(self, pairs: Sequence[str]) -> None:
        r"""Read pairs such as ``"0=healthy"``.

        Raises
        ------
        BadSource
            If a pair has no equals sign.
        """
        bad = [pair for pair in pairs if "=" not in pair]
        if bad:
            raise BadSource(f"--rename takes OLD=NEW, not '{bad[0]}'")
        super().__init__(pair.split("=", 1) for pair in pairs)
        self.met: set[str] = set()

    def __contains__(self, old: object) -> bool:
        found = super().__contains__(old)
        self.met |= {str(old)} if found else set()
        return found

    def get(self, old: str, otherwise: str = "") -> str:  # type: ignore[override]
        """Look up the new name of an old one."""
        return str(super().get(old)) if old in self else otherwise

    def refuse_unmet(self, found: Import) -> None:
        """Refuse old names that neither a label nor a site has; a name that was mistyped would change nothing."""
        unmet = ", ".join(f"'{old}'" for old in self if old not in self.met)
        if unmet:
            labels = ", ".join(sorted({case.row["label"] for case in found.cases} - {""})[:10])
            raise BadSource(f"--rename: nothing is called {unmet}; correct or remove it (labels: {labels or 'none'})")
