"""Draw the slice or image of a scan with the saliency map of the most probable class."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from pipeline.bundle.limits import ScanOutput
from pipeline.bundle.opening import Opened
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.placement import Placement
from pipeline.imaging.tables.scan_list import Listed
from pipeline.learning.models.ensemble import classifiers_in, network_from
from pipeline.learning.models.saliency import NO_MAP, mean_saliency
from pipeline.stages.explain.thumbnails import by_instance, frames, overlaid

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawing:
    """What a person looks at of a scan.

    Attributes
    ----------
    image : (H, W, 3) uint8
        The image, or the slice with the most saliency (the middle one without a map), as the network sees it.
    slice_number : int
        Number of the slice among the instances of a volume, from 1.
    slices : int
    maps : (S, H, W) or None
        Saliency of the class `asked`; None if no location supports it, or the answer is withheld.
    over : (H, W, 3) uint8 or None
        `image` with its map.
    asked : int
        Index of the most probable class.
    placement : Placement
    """

    image: Pixels
    slice_number: int
    slices: int
    maps: Floats | None
    over: Pixels | None
    asked: int
    placement: Placement


class Overlays:
    """Draw scans; the network is loaded again, because saliency needs gradients."""

    def __init__(self, bundle: Opened) -> None:
        self.network = network_from(bundle.network)
        self.network.load_state_dict(load_file(bundle.weights))
        self.network.eval()
        self.geometry = Geometry.from_json(bundle.preparation["geometry"])

    def draw(self, scan: Listed, output: ScanOutput, with_map: bool) -> Drawing:
        """Draw a scan, with or without the map of its most probable class, which would give away a withheld answer."""
        asked, instances = int(output.logits.argmax()), frames(output.prepared.channels, self.geometry)
        maps, peak, over = None, len(instances) // 2, None
        if with_map:
            channels = torch.from_numpy(output.prepared.channels)[None]
            members, site = classifiers_in(self.network), scan.known.get("site")
            found = mean_saliency(members, channels, asked, "gradcam", site=site)
            maps = None if found.method == NO_MAP else found.maps
        if maps is not None:
            shown = by_instance(maps, len(instances))
            peak = int(shown.sum(axis=(1, 2)).argmax())
            over = overlaid(instances[peak : peak + 1], shown[peak : peak + 1])[0]
        return Drawing(
            image=instances[peak],
            slice_number=peak + 1,
            slices=len(instances),
            maps=maps,
            over=over,
            asked=asked,
            placement=output.prepared.placement,
        )


def png_of(image: Pixels) -> bytes:
    """Encode an image (H, W, 3) as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
