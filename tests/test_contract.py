"""The rules of the house: who imports whom, what a stage declares, and how code is named and sized."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import params, paths

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipeline"
LIBRARIES = ("imaging", "learning", "metrics", "bundle")
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = tuple(DVC)  # in the order of the data


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_names(file: Path) -> set[str]:
    """Dotted names that a file imports, of modules and of what is taken from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imports_of(file: Path, packages: bool = False) -> set[str]:
    """Files of the project that a file imports; with `packages`, the `__init__.py` of packages as well."""
    found = [Path(*name.split(".")) for name in imported_names(file)]
    paths_of = {str(path.with_suffix(".py")) for path in found}
    paths_of |= {str(path / "__init__.py") for path in found} if packages else set()
    return {path for path in paths_of if path.startswith("pipeline") and (ROOT / path).exists()}


def closure_of(file: Path) -> set[str]:
    seen: set[str] = set()
    todo = {str(file.relative_to(ROOT))}
    while todo:
        one = todo.pop()
        seen.add(one)
        todo |= imports_of(ROOT / one) - seen
    return seen


def layer_of(file: str) -> tuple[str, int]:
    """Tell where a file stands: in a library, in a stage (and which), among the commands, or at the top."""
    parts = Path(file).parts
    if len(parts) == 2 or parts[1] == "schema":
        return "top", 0
    return (parts[1], STAGES.index(parts[2])) if parts[1] == "stages" and len(parts) > 3 else (parts[1], 0)


def may_import(file: str, other: str) -> bool:
    (here, position), (there, earlier) = layer_of(file), layer_of(other)
    if here == "bundle":
        return there in LIBRARIES
    if here in LIBRARIES:
        return there == here
    if here == "stages":
        return there in (*LIBRARIES, "top") or (there == "stages" and earlier <= position)
    if here == "commands":
        return there != "commands" or Path(file).parts[2] == Path(other).parts[2] or len(Path(other).parts) == 3
    if Path(file).parts[1] == "schema":  # it takes the defaults of reading from the library
        return there in ("top", "imaging")
    return there == "top" or Path(file).name == "__main__.py"


def test_imports_run_one_way_from_commands_over_stages_to_libraries() -> None:
    for file in modules():
        name = str(file.relative_to(ROOT))
        wrong = {other for other in imports_of(file, packages=True) if not may_import(name, other)}
        assert not wrong, f"{name} imports {wrong}"


def test_folders_of_the_package_are_stages_commands_schema_and_libraries() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {"stages", "commands", "schema", *LIBRARIES}


@pytest.mark.parametrize("package", ["pipeline.metrics", "pipeline.imaging.reading"])
def test_metrics_and_readers_run_without_torch(package: str) -> None:
    folder = ROOT / Path(*package.split("."))
    names = [f"{package}.{'.'.join(file.relative_to(folder).with_suffix('').parts)}" for file in folder.rglob("*.py")]
    code = f"import importlib, sys; [importlib.import_module(n.removesuffix('.__init__')) for n in {names!r}]; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("nibabel", {"pipeline/imaging", "pipeline/stages/cohort", "pipeline/stages/release"}),
        ("pydicom", {"pipeline/imaging", "pipeline/stages/cohort", "pipeline/bundle/dicom_results"}),
        ("highdicom", {"pipeline/bundle/dicom_results", "pipeline/imaging/masks"}),
        ("SimpleITK", {"pipeline/imaging"}),
        ("albumentations", {"pipeline/imaging/augmentation"}),
        ("timm", {"pipeline/learning"}),
        ("accelerate", {"pipeline/learning", "pipeline/stages/adapt"}),
        ("sklearn", {"pipeline/learning", "pipeline/metrics", "pipeline/stages"}),
        ("jinja2", {"pipeline/stages/release", "pipeline/stages/report"}),
    ],
)
def test_an_external_library_is_known_to_few_folders_only(library: str, home: set[str]) -> None:
    for file in modules():
        if any(name.split(".")[0] == library for name in imported_names(file)):
            name = str(file.relative_to(ROOT))
            assert any(name.startswith(f"{folder}/") for folder in home), f"{name} imports {library}"


def code_deps(stage: str) -> list[str]:
    return [dep for dep in DVC[stage]["deps"] if dep.startswith("pipeline/")]


def files_below(dep: str) -> set[str]:
    path = ROOT / dep
    files = path.rglob("*.py") if path.is_dir() else [path]
    return {str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py"}


@pytest.mark.parametrize("stage", DVC)
def test_code_deps_of_a_stage_hold_all_that_it_imports_and_none_is_idle(stage: str) -> None:
    closure = {file for file in closure_of(PACKAGE / "stages" / stage / "run.py") if layer_of(file)[0] != "top"}
    declared = {dep: files_below(dep) for dep in code_deps(stage)}
    assert {file for file in closure if not file.endswith("__init__.py")} <= set().union(*declared.values())
    assert not [dep for dep, files in declared.items() if not files & closure]


def test_code_deps_are_few_and_dvc_yaml_is_short() -> None:
    assert sum(len(code_deps(stage)) for stage in DVC) <= 63
    assert (ROOT / "dvc.yaml").read_text().count("\n") <= 260


@pytest.mark.parametrize(
    "file",
    [
        "pipeline/metrics/conformal.py",
        "pipeline/imaging/reading/metaimage.py",
        "pipeline/imaging/preparation/deface.py",
        "pipeline/stages/cohort/importers/bids.py",
        "pipeline/stages/report/page.html",
    ],
)
def test_code_that_no_training_uses_retrains_nothing(file: str) -> None:
    for stage in ("adapt", "finetune"):
        assert not [dep for dep in code_deps(stage) if Path(file).is_relative_to(dep)], stage


def below_stages(closure: set[str]) -> set[str]:
    return {file for file in closure if layer_of(file)[0] != "top" and not file.endswith("__init__.py")}


def test_trainings_of_evidence_import_no_code_that_their_key_leaves_out() -> None:
    from pipeline.stages.evidence.experiments.networks import STATISTICS

    for name in ("networks", "trainings"):
        closure = below_stages(closure_of(PACKAGE / "stages" / "evidence" / "experiments" / f"{name}.py"))
        assert not [file for file in closure if any(Path(file).is_relative_to(folder) for folder in STATISTICS)]


def test_cached_activations_are_made_by_code_that_finetune_declares() -> None:
    closure = below_stages(closure_of(PACKAGE / "stages" / "finetune" / "fold_data.py"))
    assert closure <= set().union(*map(files_below, code_deps("finetune")))


def test_every_key_hashes_the_code_of_its_own_stage() -> None:
    owners = {"stages/finetune/fold_data.py": "finetune", "stages/evidence/experiments/networks.py": "evidence"}
    owners |= {f"stages/{stage}/run.py": stage for stage in DVC}
    found = set()
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "code_of":
                asked = node.args[0]
                assert isinstance(asked, ast.Constant), f"{file} asks for a stage that nobody can read off"
                assert asked.value == owners[file.relative_to(PACKAGE).as_posix()], f"{file} hashes {asked.value}"
                found.add(asked.value)
    assert found == {"cohort", "preprocess", "adapt", "finetune", "evidence"}


@pytest.mark.parametrize("stage", DVC)
def test_sections_that_a_stage_reads_are_its_params(stage: str) -> None:
    assembly = [file for file in closure_of(PACKAGE / "stages" / stage / "run.py") if layer_of(file)[0] == "stages"]
    read = {
        node.attr
        for file in assembly
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.Attribute)
        and "params" in (getattr(node.value, "id", ""), getattr(node.value, "attr", ""))
    }
    if stage == "report":  # it prints every section that it is handed
        read = set(params.Params.model_fields)
    assert read == {name.partition(".")[0] for name in DVC[stage]["params"]}


def test_stages_have_one_name_in_params_code_and_tests() -> None:
    assert set(params.Params.model_fields) - {"seed", "budget"} == set(DVC)
    for folder in (PACKAGE / "stages", ROOT / "tests" / "stages"):
        names = {path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
        assert names == set(DVC), folder
    assert all((PACKAGE / "stages" / stage / "run.py").exists() for stage in DVC)


def test_params_file_holds_every_key_of_the_schema_and_no_other() -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    params.load(ROOT / "params.yaml")
    for name, field in params.Params.model_fields.items():
        if name not in ("seed", "budget"):
            assert set(raw[name]) == set(field.annotation.model_fields), name


def outs_of(stage: str, kinds: tuple[str, ...] = ("outs", "metrics", "plots")) -> list[str]:
    entries = [entry for kind in kinds for entry in DVC[stage].get(kind, [])]
    names = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    return [name.replace("${item.fold}", "0") for name in names]


def test_every_out_is_a_path_of_paths_py() -> None:
    known = {str(value) for value in vars(paths).values() if isinstance(value, Path)}
    known |= {str(path("0")) for path in (paths.adapted_encoder, paths.adaptation, paths.model, paths.network)}
    known |= {str(path("0")) for path in (paths.adapted_sites, paths.search)}
    known |= {str(path("0")) for path in (paths.predictions, paths.member_predictions)}
    known |= {str(path("0")) for path in (paths.features, paths.history, paths.recipe)}
    known |= {str(paths.REPORT.parent)}
    for stage in DVC:
        assert set(outs_of(stage)) <= known


def test_metrics_and_plots_are_not_cached_and_outs_are() -> None:
    for stage in DVC.values():
        for entry in [*stage.get("metrics", []), *stage.get("plots", [])]:
            assert next(iter(entry.values()))["cache"] is False
        assert all(isinstance(entry, str) or "cache" not in next(iter(entry.values())) for entry in stage["outs"])


def test_only_bundles_outlive_the_start_of_their_stage() -> None:
    persistent = [entry for stage in DVC.values() for entry in stage["outs"] if not isinstance(entry, str)]
    assert persistent == [{"data/released": {"persist": True}}]


def public_names(tree: ast.Module) -> list[tuple[str, set[int]]]:
    """Names that a module defines, each with the lines of its definition."""
    found: list[tuple[str, set[int]]] = []
    for node in tree.body:
        lines = set(range(node.lineno, (node.end_lineno or 0) + 1))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append((node.name, lines))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            found += [(name, lines) for name in names]
    return [(name, lines) for name, lines in found if not name.startswith("_")]


def brought_in(tree: ast.Module) -> set[int]:
    """Lines that only pass a name on: imports and `__all__`."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    nodes += [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    return {line for node in nodes for line in range(node.lineno, (node.end_lineno or 0) + 1)}


def test_every_public_name_is_used() -> None:
    """By a line of ours that is not its own definition; what tests alone use is dead."""
    files = [file for folder in ("pipeline", "benchmarks") for file in (ROOT / folder).rglob("*") if file.is_file()]
    texts = {file: file.read_text() for file in [*files, ROOT / "dvc.yaml"] if file.suffix != ".pyc"}
    trees = {file: ast.parse(text) for file, text in texts.items() if file.suffix == ".py"}
    used: dict[str, set[tuple[Path, int]]] = {}
    for file, text in texts.items():
        passed_on = brought_in(trees[file]) if file in trees else set()
        for number, line in enumerate(text.split("\n"), start=1):
            for word in set(re.findall(r"\w+", line)) if number not in passed_on else ():
                used.setdefault(word, set()).add((file, number))
    dead = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in modules()
        for name, lines in public_names(trees[file])
        if not used.get(name, set()) - {(file, line) for line in lines}
    ]
    assert not dead


def test_files_and_functions_stay_small_enough_to_read() -> None:
    for file in modules():
        text = file.read_text()
        assert text.count("\n") <= 300, f"{file} is asked whether it is two"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = (node.end_lineno or 0) - node.body[0].lineno + 1
                document = ast.get_docstring(node, clean=False)
                lines = body - (document.count("\n") + 1 if document else 0)
                assert lines <= 60 if node.name.endswith("_config") else lines <= 45, f"{file}: {node.name}"


def signatures() -> dict[str, bool]:
    """Callables that the package defines, by name: whether none of that name takes any number of arguments."""
    found: dict[str, bool] = {}
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                found[node.name] = found.get(node.name, True) and node.args.vararg is None
            elif isinstance(node, ast.ClassDef):
                found.setdefault(node.name, True)
    return found


def test_no_call_of_ours_has_more_than_four_positional_arguments() -> None:
    ours = signatures()
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                given = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
                assert len(given) <= 4 or not ours.get(name, False), f"{file}:{node.lineno}: {name}"


def test_tests_import_nothing_from_test_modules_and_have_short_names() -> None:
    """What tests share stands in conftest.py or in a module without tests; names have at most 70 characters."""
    for file in (ROOT / "tests").rglob("*.py"):
        modules, names = set(), []
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules |= {node.module.rpartition(".")[2], *(alias.name for alias in node.names)}
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names.append(node.name)
        assert not {name for name in modules if name.startswith("test_")}, file
        assert not [name for name in names if len(name) > 70], file
