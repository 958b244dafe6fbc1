"""What a manifest says of the code that made a release."""

from pathlib import Path

from pipeline.bundle import manifest
from pipeline.bundle.manifest import code_in


def test_the_hash_of_the_code_covers_files_and_names_and_needs_no_git(tmp_path):
    package = tmp_path / "package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "a.py").write_text("1")
    first = code_in(package)
    (package / "__pycache__" / "a.pyc").write_text("compiled")
    assert code_in(package) == first and first["commit"] is first["dirty"] is None
    (package / "a.py").rename(package / "b.py")
    assert code_in(package)["sha256"] != first["sha256"]
    assert len(code_in(Path(manifest.__file__).parents[1])["commit"]) == 40
