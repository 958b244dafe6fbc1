"""A tiny random model of the open_clip kind."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pipeline.learning.models.state_files import file_sha256

SIZE = 32
CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]},
}


@pytest.fixture(scope="module")
def oracle():
    """A tiny random model, built by open_clip itself."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    return open_clip.CLIP(**CONFIG["model_cfg"]).eval()


@pytest.fixture
def folder(tmp_path, oracle):
    save_file(oracle.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def sha_of(folder, name="open_clip_model.safetensors"):
    return file_sha256(folder / name)
