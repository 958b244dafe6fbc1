"""No labels at all: what a vision-language model says to a case when it is asked in words."""

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

from pipeline.learning.models.weights import BadWeights, Provenance, file_sha256

CONFIG = "open_clip_config.json"
WEIGHTS = tuple(f"open_clip_{name}" for name in ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin"))
BESIDE = ("*.json", "*.txt")  # its configuration, and a tokenizer's vocabulary
TEXT_CONFIG = "config.json"


class NotAvailable(RuntimeError):
    """What a vision-language model needs is not installed; the message says how to install it."""


@dataclass(frozen=True)
class VisionLanguage:
    """A network that sees images and reads text, and what it expects of both.

    Attributes
    ----------
    network
        A module of the open_clip kind: encode_image, encode_text, logit_scale.
    tokenize : callable
        From texts to tokens (texts, length).
    size : (int, int)
        Rows and columns of an image.
    mean, std : (3, 1, 1)
        Of the training images' red, green and blue, in [0, 1].
    mode : {"bicubic", "bilinear"}
        How an image is resized.
    """

    network: Any
    tokenize: Callable[[list[str]], Tensor]
    size: tuple[int, int]
    mean: Tensor
    std: Tensor
    mode: str
    provenance: Provenance


def load_vision_language(source: str, sha256: str | None, device: str = "cpu") -> VisionLanguage:
    """Open a vision-language model of the open_clip kind; its weights are checked before they are opened.

    A text encoder of the package transformers is built from its config.json in the same folder, where its tokenizer's
    files lie as well; nothing but a hub that is named is asked over the network.

    Parameters
    ----------
    source : str
        A folder with open_clip_config.json and open_clip_model.safetensors (or open_clip_pytorch_model.bin), or
        "hub:OWNER/NAME@REVISION".
    sha256 : str or None
        Of the weights; None tells what it is, and refuses.
    device : str
        Where it is to run.

    Raises
    ------
    NotAvailable
        If open_clip, or what the text encoder needs, is not installed.
    BadWeights
        If the model is absent, has another hash, or is not what it claims.
    """
    open_clip = _open_clip()
    from_hub = source.startswith("hub:")
    folder = _fetched(source.removeprefix("hub:")) if from_hub else Path(source.removeprefix("local-dir:"))
    file = _checked_weights(folder, sha256)
    name = source if from_hub else f"folder {folder.name}"
    provenance = Provenance("open_clip", name, "unknown: see its source", sha256, "images with texts, contrastive")
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        network = _build(open_clip, config["model_cfg"], folder)
        open_clip.load_checkpoint(network, str(file), weights_only=True)
        tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
        return _with_preprocessing(network.to(device).eval(), tokenize, config.get("preprocess_cfg", {}), provenance)
    except (BadWeights, NotAvailable):
        raise
    except Exception as error:  # the readers and builders raise many kinds on a broken or hostile folder
        raise BadWeights(f"evidence.vision_language: {folder} is not an open_clip model: {error}") from error


def prompts_for(classes: Sequence[str], given: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[str]]:
    """Put each class into words, in their order: as given, else "a medical image showing ..." and its name.

    Raises
    ------
    ValueError
        If words are given for a class that is not there, or none for one that is.
    """
    given = given or {}
    unknown = sorted(set(given) - set(classes))
    if unknown:
        raise ValueError(f"evidence.prompts: {unknown[0]} is no class of the cohort; it has {', '.join(classes)}")
    empty = [name for name in classes if name in given and not given[name]]
    if empty:
        raise ValueError(f"evidence.prompts: give {empty[0]} one text at least, or leave it out")
    return {name: list(given.get(name, [f"a medical image showing {name.replace('_', ' ')}"])) for name in classes}


@torch.inference_mode()
def zero_shot_logits(
    model: VisionLanguage,
    cases: Iterable[NDArray[np.uint8]],
    prompts: Mapping[str, Sequence[str]],
    channels: int,
    colour: bool,
) -> NDArray[np.float64]:
    """Compare each case with the words for each class; no label is involved.

    logit_c = s mean_i cos(image_i, text_c), over the instances i of a case; s is the model's scale, text_c the
    normalised mean of the normalised embeddings of a class's texts (Radford et al. 2021, "Learning transferable visual
    models from natural language supervision", sections 3.1.2 and 3.1.4). A bias of the model is the same for all
    classes and left out.

    Parameters
    ----------
    cases : iterable of (P, H, W) uint8
        One after another, so that a score never depends on what stands beside it.
    prompts : mapping of str to sequence of str
        Texts of each class, in the order of the classes.
    channels : int
        Channels of an instance; P is a multiple of it.
    colour : bool
        Whether the three channels of an instance are red, green and blue. Otherwise its middle channel is shown in
        grey, as a metric in a paper would show it: neighbouring slices as colours are nothing that was ever described
        in words.

    Returns
    -------
    (n, n_classes) float64
        For a softmax.

    Raises
    ------
    ValueError
        If the channels of a case are no whole number of instances.
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
        raise BadWeights("evidence.vision_language: hub:OWNER/NAME needs @REVISION, to be the same tomorrow")
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
            f"evidence.vision_language: hub:{name} could not be fetched ({error}); download it and name the folder here"
        ) from error
    return folder


def _checked_weights(folder: Path, sha256: str | None) -> Path:
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None or not (folder / CONFIG).is_file():
        raise BadWeights(f"evidence.vision_language: {folder} needs {CONFIG} and one of {', '.join(WEIGHTS)}")
    actual = file_sha256(file)
    if sha256 != actual:
        raise BadWeights(
            f"evidence.vision_language_sha256: it is {sha256 or 'null'}, but {file} has {actual}; "
            "make sure that this is the model you mean, then set that"
        )
    return file


def _build(open_clip: Any, config: Mapping[str, Any], folder: Path) -> nn.Module:
    """Build the network; a configuration may ask for weights of its parts over the network, which is overruled."""
    towers = {name: value for name, value in config.items() if name != "custom_text"}
    towers["vision_cfg"] = {**config["vision_cfg"], "timm_model_pretrained": False}
    towers["text_cfg"] = {**config["text_cfg"], "hf_model_pretrained": False}
    foreign = _foreign_text_encoder(config["text_cfg"], folder)
    if foreign:
        towers["text_cfg"]["hf_model_name"] = str(folder)
    kind = open_clip.CustomTextCLIP if foreign or config.get("custom_text") else open_clip.CLIP
    network: nn.Module = kind(**towers)
    return network


def _foreign_text_encoder(config: Mapping[str, Any], folder: Path) -> str | None:
    """Name the text encoder where it is one of transformers, after a look at whether all is there to build it."""
    name: str | None = config.get("hf_model_name")
    if (name or config.get("hf_tokenizer_name")) and find_spec("transformers") is None:
        raise NotAvailable("evidence.vision_language: it reads text by transformers: pip install transformers")
    if name and not (folder / TEXT_CONFIG).is_file():
        raise BadWeights(
            f"evidence.vision_language: its text encoder is {name}; put that model's {TEXT_CONFIG} and the files of "
            f"its tokenizer into {folder}"
        )
    return name


def _with_preprocessing(
    network: Any, tokenize: Callable[[list[str]], Tensor], config: Mapping[str, Any], provenance: Provenance
) -> VisionLanguage:
    constants = import_module("open_clip.constants")
    device, size = network.logit_scale.device, network.visual.image_size
    mean = config.get("mean") or constants.OPENAI_DATASET_MEAN
    std = config.get("std") or constants.OPENAI_DATASET_STD
    centre, spread = (torch.tensor(values, device=device).reshape(3, 1, 1) for values in (mean, std))
    mode = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    rows, columns = (size, size) if isinstance(size, int) else size
    return VisionLanguage(network, tokenize, (rows, columns), centre, spread, mode, provenance)


def _embedded(model: VisionLanguage, texts: list[str]) -> Tensor:
    """Embed the texts of a class as one: (width,), of length one."""
    tokens = model.tokenize(texts).to(model.mean.device)
    each: Tensor = model.network.encode_text(tokens, normalize=True)
    return normalize(each.mean(dim=0), dim=0)


def _images(model: VisionLanguage, case: NDArray[np.uint8], channels: int, colour: bool) -> Tensor:
    """Turn the channels (P, H, W) of a case into images (P / channels, 3, rows, columns) as the model expects them."""
    if len(case) % channels:
        raise ValueError(f"a case of {len(case)} channels is no whole number of instances of {channels}")
    bag = torch.from_numpy(np.ascontiguousarray(case)).reshape(-1, channels, *case.shape[1:])
    if not (colour and channels == 3):
        bag = bag[:, channels // 2, None].expand(-1, 3, -1, -1)
    images = bag.to(model.mean.device).float() / 255
    if tuple(images.shape[2:]) != model.size:
        images = interpolate(images, model.size, mode=model.mode, antialias=True).clamp(0, 1)
    return (images - model.mean) / model.std
