#!/usr/bin/env bash
# The pack in the hands of other programs, with the network cut off: MONAI's bundle commands, the bundle as a zip from a
# URL, TorchScript, ONNX Runtime, and MONAI Label where `MONAILABEL` names a Python that has it.
#
#   bash benchmarks/clients.sh data/released/NAME FOLDER_OF_SCANS
#
# MONAI Label pins old versions; it runs on ours in an environment of its own:
#   python -m venv /tmp/label && echo "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
#     > "$(/tmp/label/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
#   /tmp/label/bin/pip install --no-deps monailabel==0.8.5 expiring-dict sortedcontainers pynrrd pydantic-settings shapely \
#     itk itk-core itk-numerics itk-io itk-filtering itk-registration itk-segmentation
#   MONAILABEL=/tmp/label/bin/python bash benchmarks/clients.sh ...
set -euo pipefail
if [ -z "${CUT_OFF:-}" ] && unshare -rn true 2>/dev/null; then CUT_OFF=1 exec unshare -rn bash "$0" "$@"; fi

here=$(cd "$(dirname "$0")/.." && pwd)
bundle=$(cd "$1" && pwd) scans=$(cd "$2" && pwd) name=$(basename "$1") work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
told() { echo; echo "== $*"; }

cp -r "$bundle" "$work/$name" && cp "$bundle/configs/metadata_schema.json" "$work/schema.json"
cd "$work/$name"
files=(--meta_file configs/metadata.json --config_file configs/inference.json)

told "medadapt verify, predict"
python -m pipeline verify .
python -m pipeline predict . "$scans" --out "$work/ours.csv" > /dev/null

told "monai.bundle verify_metadata"
python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath "$work/schema.json"

told "monai.bundle verify_net_in_out"
python -m monai.bundle verify_net_in_out --net_id network_def "${files[@]}"

told "monai.bundle run"
python -m monai.bundle run "${files[@]}" --bundle_root . --dataset_dir "$scans" --output_dir "$work/run" 2>/dev/null

told "monai.bundle ckpt_export"
shape=$(python -c "
import json; image = json.load(open('configs/metadata.json'))['network_data_format']['inputs']['image']
print([1, image['num_channels'], *image['spatial_shape']])")
python -m monai.bundle ckpt_export network_def --filepath "$work/exported.ts" --ckpt_file models/model.pt "${files[@]}" \
  --use_trace True --input_shape "$shape" 2> /dev/null # by scripting it fails: our networks are wider than that language

told "monai.bundle download"
cd "$work" && python -c "import shutil; shutil.make_archive('$name', 'zip', '.', '$name')" && mkdir fetched
version=$(python -c "import json; print(json.load(open('$name/configs/metadata.json'))['version'])")
python -m monai.bundle download --name "$name" --version "$version" --bundle_dir fetched --url "file://$work/$name.zip"
python -m pipeline verify "fetched/$name"
python -m pipeline verify "$name.zip"

told "predictions of each, against medadapt predict"
python "$here/benchmarks/clients.py" "$work" "$name" "$scans"
[ -z "${MONAILABEL:-}" ] || "$MONAILABEL" "$here/benchmarks/clients.py" "$work" "$name" "$scans" --label
