"""The bill of materials beside the schema of CycloneDX, pyproject.toml and the packages themselves."""

import json
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from pipeline.stages.release import sbom
from tests.conftest import ROOT

TEXT = sbom.bill_of_materials("model", "1.2.3")
BILL = json.loads(TEXT)
PARTS = {part["name"].lower(): part for part in BILL["components"]}


def test_the_schema_of_cyclonedx_accepts_it_and_refuses_it_without_a_name():
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(TEXT) is None
    del (broken := json.loads(json.dumps(BILL)))["components"][0]["name"]
    assert validator.validate_str(json.dumps(broken)) is not None


def test_what_is_needed_is_what_the_project_says_and_the_training_is_not():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(sbom.NEEDED) == sorted(Requirement(one).name for one in project["dependencies"])
    trained_by = {Requirement(one).name for one in project["optional-dependencies"]["train"]}
    assert {"dvc", "albumentations", "onnxruntime"} <= trained_by - set(PARTS)


def test_it_holds_what_packages_lead_to_and_says_which_leads_to_which():
    graph = {one["ref"]: one.get("dependsOn", []) for one in BILL["dependencies"]}
    assert set(graph) == {"model"} | {part["bom-ref"] for part in BILL["components"]}
    assert PARTS["markupsafe"]["bom-ref"] in graph[PARTS["jinja2"]["bom-ref"]]
    assert PARTS["jinja2"]["purl"] in graph["model"] and PARTS["markupsafe"]["purl"] not in graph["model"]
    assert all(one in graph for more in graph.values() for one in more)


def test_nearly_every_package_has_a_licence_and_known_ones_have_theirs():
    assert PARTS["numpy"]["licenses"][0].get("expression", "").startswith("BSD-3-Clause")
    assert "Apache" in json.dumps(PARTS["monai"]["licenses"])
    without = {name for name, part in PARTS.items() if "licenses" not in part}
    assert len(without) <= 3, without


def test_equal_environments_give_equal_bills_without_absent_packages():
    assert sbom.bill_of_materials("model", "1.2.3") == TEXT
    assert "components" not in json.loads(sbom.bill_of_materials("model", "1", ["no-such-package-here"]))
