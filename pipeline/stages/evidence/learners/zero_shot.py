"""Classify without any labels, by a vision-language model and a text for each class."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from pipeline.learning.models.state_files import BadWeights, Provenance, file_sha256

CONFIG = "open_clip_config.json"
WEIGHTS = tuple(f"open_clip_{name}" for name in ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin"))
BESIDE = ("*.json", "*.txt")  # its configuration, and the vocabulary of a tokenizer
TEXT_CONFIG = "config.json"


class NotAvailable(RuntimeError):
    """A package that the vision-language model needs is not installed; the message says how to install it."""


@dataclass(frozen=True)
class VisionLanguage:
    """A network that encodes images and texts, and the preprocessing of both.

    Attributes
    ----------
    network
        An open_clip module: encode_image, encode_text, logit_scale.
    tokenize : callable
        From texts to tokens (texts, length).
    size : (int, int)
        Rows and columns of an image.
    mean, std : (3, 1, 1)
        Of red, green and blue in the training images, in [0, 1].
    mode : {"bicubic", "bilinear"}
        Interpolation for resizing images.
    provenance : Provenance
    """

    network: Any
    tokenize: Callable[[list[str]], Tensor]
    size: tuple[int, int]
    mean: Tensor
    std: Tensor
    mode: str
    provenance: Provenance


def load_vision_language(source: str, sha256: str | None, device: str = "cpu") -> VisionLanguage:
    """Load an open_clip model; the hash of its weights is checked before they are opened.

    A text encoder of the package transformers is built from its config.json in the same folder, which also contains
    the files of its tokenizer. Only a named hub is accessed over the network.

    Parameters
    ----------
    source : str
        A folder with open_clip_config.json and open_clip_model.safetensors (or open_clip_pytorch_model.bin), or
        "hub:OWNER/NAME@REVISION".
    sha256 : str or None
        Of the weights. With None the model is refused and the message shows the actual hash.
    device : str

    Raises
    ------
    NotAvailable
        If open_clip, or a package that the text encoder needs, is not installed.
    BadWeights
        If the model is missing, has another hash, or is not a valid open_clip model.
    """
    open_clip = _open_clip()
    from_hub = source.startswith("hub:")
    folder = _fetched(source.removeprefix("hub:")) if from_hub else Path(source.removeprefix("local-dir:"))
    file = _checked_weights(folder, sha256)
    name = source if from_hub else f"folder {folder.name}"
    provenance = Provenance(
        encoder="open_clip",
        source=name,
        licence="unknown: see its source",
        sha256=sha256,
        pretraining="images with texts, contrastive",
    )
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        network = _build(open_clip, config["model_cfg"], folder)
        open_clip.load_checkpoint(network, str(file), weights_only=True)
        tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
        return _with_preprocessing(network.to(device).eval(), tokenize, config.get("preprocess_cfg", {}), provenance)
    except (BadWeights, NotAvailable):
        raise
    except Exception as error:  # open_clip raises many kinds of errors for a broken or hostile folder
        raise BadWeights(f"evidence.vision_language: {folder} is not an open_clip model: {error}") from error


def prompts_for(classes: Sequence[str], given: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[str]]:
    """List the texts of each class, in the order of the classes; by default "a medical image showing NAME".

    Raises
    ------
    ValueError
        If there are texts for an unknown class, or an empty list for a known one.
    """
    given = given or {}
    unknown = sorted(set(given) - set(classes))
    if unknown:
        raise ValueError(f"evidence.prompts: {unknown[0]} is not a class of the cohort; it has {', '.join(classes)}")
    empty = [name for name in classes if name in given and not given[name]]
    if empty:
        raise ValueError(f"evidence.prompts: {empty[0]} has no text; give at least one, or leave the class out")
    return {name: list(given.get(name, [f"a medical image showing {name.replace('_', ' ')}"])) for name in classes}


@torch.inference_mode()
def zero_shot_logits(
    model: VisionLanguage,
    cases: Iterable[NDArray[np.uint8]],
    prompts: Mapping[str, Sequence[str]],
    *,
    channels: int,
    colour: bool,
) -> NDArray[np.float64]:
    """Compare each case with the texts of each class; no label is used.

    logit_c = s mean_i cos(image_i, text_c) over the instances i of a case, where s is the model's scale and text_c the
    normalised mean of the normalised embeddings of the class's texts (Radford et al. 2021, "Learning transferable
    visual models from natural language supervision", sections 3.1.2 and 3.1.4). A bias of the model is the same for
    all classes and left out.

    Parameters
    ----------
    cases : iterable of (P, H, W) uint8
        Processed one by one, so that a score does not depend on other cases.
    prompts : mapping of str to sequence of str
        Texts of each class, in the order of the classes.
    channels : int
        Channels of an instance; P is a multiple of it.
    colour : bool
        Whether the three channels of an instance are red, green and blue. Otherwise only the middle channel is used,
        in grey, like a figure in a paper: no text describes images whose colours are neighbouring slices.

    Returns
    -------
    (n, n_classes) float64
        Logits for a softmax.

    Raises
    ------
    ValueError
        If the channels of a case are not a whole number of instances.
    """
    texts = torch.stack([_embedded(model, list(of_class)) for of_class in prompts.values()])
    scale = model.network.logit_scale.exp()
    rows = []
    for case in cases:
        images = model.network.encode_image(_images(model, case, channels, colour), normalize=True)
        rows.append((scale * images @ texts.T).mean(dim=0).double().cpu().numpy())
    return np.array(rows).reshape(-1, len(texts))


def _open_clip() -> Any:
    try:
        return import_module("open_clip")
    except ImportError as error:
        raise NotAvailable(
            "evidence.vision_language: open_clip is not installed: pip install 'medadapt[zeroshot]', or set it to null"
        ) from error


def _fetched(name: str) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    repository, _, revision = name.partition("@")
    if not revision:
        raise BadWeights("evidence.vision_language: hub:OWNER/NAME needs @REVISION, so that it stays the same model")
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(BESIDE)))
        for weights in WEIGHTS:
            try:
                hf_hub_download(repository, weights, revision=revision)
                break
            except EntryNotFoundError:
                continue
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise BadWeights(
            f"evidence.vision_language: hub:{name} could not be downloaded ({error}); download it and set its folder"
        ) from error
    return folder


def _checked_weights(folder: Path, sha256: str | None) -> Path:
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None or not (folder / CONFIG).is_file():
        raise BadWeights(f"evidence.vision_language: {folder} needs {CONFIG} and one of {', '.join(WEIGHTS)}")
    actual = file_sha256(file)
    if sha256 != actual:
        raise BadWeights(
            f"evidence.vision_language_sha256 is {sha256 or 'null'}, but {file} has {actual}; "
            "make sure that this is the intended model, then set its hash"
        )
    return file


def _build(open_clip: Any, config: Mapping[str, Any], folder: Path) -> nn.Module:
    """Build the network without downloading weights of its parts, even if the configuration asks for them."""
    towers = {name: value for name, value in config.items() if name != "custom_text"}
    towers["vision_cfg"] = {**config["vision_cfg"], "timm_model_pretrained": False}
    towers["text_cfg"] = {**config["text_cfg"], "hf_model_pretrained": False}
    transformers = _transformers_text_encoder(config["text_cfg"], folder)
    if transformers:
        towers["text_cfg"]["hf_model_name"] = str(folder)
    kind = open_clip.CustomTextCLIP if transformers or config.get("custom_text") else open_clip.CLIP
    network: nn.Module = kind(**towers)
    return network


def _transformers_text_encoder(config: Mapping[str, Any], folder: Path) -> str | None:
    """Name the text encoder if it is one of transformers, after checking that it can be built."""
    name: str | None = config.get("hf_model_name")
    if (name or config.get("hf_tokenizer_name")) and find_spec("transformers") is None:
        raise NotAvailable(
            "evidence.vision_language: its text encoder needs the package transformers: pip install transformers"
        )
    if name and not (folder / TEXT_CONFIG).is_file():
        raise BadWeights(
            f"evidence.vision_language: its text encoder is {name}; copy the {TEXT_CONFIG} of that model and the "
            f"files of its tokenizer to {folder}"
        )
    return name


def _with_preprocessing(
    network: Any, tokenize: Callable[[list[str]], Tensor], config: Mapping[str, Any], provenance: Provenance
) -> VisionLanguage:
    constants = import_module("open_clip.constants")
    device, size = network.logit_scale.device, network.visual.image_size
    mean = config.get("mean") or constants.OPENAI_DATASET_MEAN
    std = config.get("std") or constants.OPENAI_DATASET_STD
    rows, columns = (size, size) if isinstance(size, int) else size
    return VisionLanguage(
        network=network,
        tokenize=tokenize,
        size=(rows, columns),
        mean=torch.tensor(mean, device=device).reshape(3, 1, 1),
        std=torch.tensor(std, device=device).reshape(3, 1, 1),
        mode="bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
        provenance=provenance,
    )


def _embedded(model: VisionLanguage, texts: list[str]) -> Tensor:
    """Embed the texts of a class as one unit vector (width,)."""
    tokens = model.tokenize(texts).to(model.mean.device)
    each: Tensor = model.network.encode_text(tokens, normalize=True)
    return normalize(each.mean(dim=0), dim=0)


def _images(model: VisionLanguage, case: NDArray[np.uint8], channels: int, colour: bool) -> Tensor:
    """Turn the channels (P, H, W) of a case into model inputs (P / channels, 3, rows, columns)."""
    if len(case) % channels:
        raise ValueError(f"{len(case)} channels of a case are not a whole number of instances of {channels} channels")
    bag = torch.from_numpy(np.ascontiguousarray(case)).reshape(-1, channels, *case.shape[1:])
    if not (colour and channels == 3):
        bag = bag[:, channels // 2, None].expand(-1, 3, -1, -1)
    images = bag.to(model.mean.device).float() / 255
    if tuple(images.shape[2:]) != model.size:
        images = interpolate(images, model.size, mode=model.mode, antialias=True).clamp(0, 1)
    return (images - model.mean) / model.std
