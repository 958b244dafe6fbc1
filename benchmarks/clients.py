"""What other programs make of the same scans as `predict`; called by clients.sh, which names the folders."""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("name")
    parser.add_argument("scans", type=Path)
    parser.add_argument("--label", action="store_true", help="MONAI Label alone")
    arguments = parser.parse_args()
    bundle = arguments.work / arguments.name
    classes = json.loads((bundle / "configs/metadata.json").read_text())["classes"]
    found = pd.read_csv(arguments.work / "ours.csv")
    withheld = {name: found[name].fillna(found[f"withheld_{name}"]) for name in classes}
    ours = found.assign(**withheld).dropna(subset=classes).set_index("scan")[classes]
    if arguments.label:
        compare(f"MONAI Label {version('monailabel')}", ours, by_monai_label(bundle, arguments.scans, ours, classes))
        return
    compare(f"monai.bundle run {version('monai')}", ours, by_run(arguments.work / "run", ours))
    channels = torch.stack([prepared(bundle, arguments.scans / scan) for scan in ours.index])
    compare(f"onnxruntime {version('onnxruntime')}, batches of 1", ours, by_onnx(bundle, channels, 1))
    compare(f"onnxruntime {version('onnxruntime')}, batches of 5", ours, by_onnx(bundle, channels, 5))
    compare(f"model.ts, torch {torch.__version__}", ours, by_script(bundle / "models/model.ts", channels))
    exported, script = (
        logits_of(file, channels) for file in (arguments.work / "exported.ts", bundle / "models/model.ts")
    )
    print(f"ckpt_export's TorchScript against model.ts, logits: off by {np.abs(exported - script).max():.2g}")
    print(f"create_workflow(...).check_properties(): {missing_properties(bundle, arguments.scans)}")


def missing_properties(bundle: Path, scans: Path) -> list[str]:
    """Name what MONAI's workflow misses in the bundle."""
    from monai.bundle import create_workflow

    files = {"config_file": bundle / "configs/inference.json", "meta_file": bundle / "configs/metadata.json"}
    folders = {"bundle_root": bundle, "dataset_dir": scans, "output_dir": bundle / "eval"}
    given = {name: str(path) for name, path in (files | folders).items()}
    workflow = create_workflow(**given, workflow_type="inference", logging_file=False)
    workflow.initialize()
    return list(workflow.check_properties())


def compare(client: str, ours: pd.DataFrame, theirs: np.ndarray) -> None:
    """Print the largest difference of a probability."""
    print(f"{client}: {len(theirs)} scans, off by {np.abs(ours.to_numpy() - theirs).max():.2g}")


def prepared(bundle: Path, scan: Path) -> torch.Tensor:
    """Prepare a scan as the bundle says, by MONAI."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(json.loads((bundle / "configs/inference.json").read_text()))
    return torch.as_tensor(parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"])


def by_run(output: Path, ours: pd.DataFrame) -> np.ndarray:
    """Read what MONAI's evaluator wrote, whose first column names the scan."""
    table = pd.read_csv(next(output.rglob("predictions.csv")), header=None, index_col=0)
    return table.loc[list(ours.index)].to_numpy()


def by_onnx(bundle: Path, channels: torch.Tensor, batch: int) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle / "models/model.onnx", providers=["CPUExecutionProvider"])
    [image], names = session.get_inputs(), [output.name for output in session.get_outputs()]
    return np.concatenate(
        [session.run(names, {image.name: part.float().numpy()})[names.index("pred")] for part in channels.split(batch)]
    )


def by_script(file: Path, channels: torch.Tensor) -> np.ndarray:
    return torch.jit.load(file).probabilities(channels.float()).numpy()


@torch.inference_mode()
def logits_of(file: Path, channels: torch.Tensor) -> np.ndarray:
    return np.concatenate([torch.jit.load(file)(part.float()).numpy() for part in channels.split(1)])


def by_monai_label(bundle: Path, scans: Path, ours: pd.DataFrame, classes: list[str]) -> np.ndarray:
    from monailabel.tasks.infer.bundle import BundleInferTask

    task = BundleInferTask(str(bundle), {"models": bundle.name}, type="classification", add_post_restore=False)
    found = [task({"image": str(scans / scan), "device": "cpu"}) for scan in ours.index]
    scores = [{row["label"]: row["score"] for row in answer["prediction"]} for _, answer in found]
    return np.array([[row[name] for name in classes] for row in scores])


if __name__ == "__main__":
    main()
