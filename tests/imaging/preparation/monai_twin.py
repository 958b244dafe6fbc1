"""The preprocessor as stock MONAI transforms: the oracle of the tests and the peer of the benchmark."""

from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ResizeWithPadOrCropd,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    Spacingd,
)

from pipeline.imaging.preparation.intensity import otsu_threshold

LABELS = [("L", "R"), ("P", "A"), ("I", "S")]


def volume_twin(geometry) -> Compose:
    """Compose the way from a file's path to (1, X, Y, Z) in RAS, 0 to 255, for one intensity window."""
    size = (geometry.image_size, geometry.image_size, geometry.depth)
    return Compose(
        [
            LoadImaged("image", image_only=True),
            EnsureChannelFirstd("image", channel_dim="no_channel"),
            Orientationd("image", "RAS", labels=LABELS),
            *([CropForegroundd("image", "image", select_fn=above_otsu)] if geometry.crop == "foreground" else []),
            *_intensity(geometry.intensity),
            Spacingd("image", geometry.spacing, mode="bilinear", padding_mode="border"),
            ResizeWithPadOrCropd("image", size),
        ]
    )


def above_otsu(volume):
    return volume > otsu_threshold(volume.numpy())


def _intensity(intensity):
    if intensity == "percentile":
        return [ScaleIntensityRangePercentilesd("image", lower=0.5, upper=99.5, b_min=0, b_max=255, clip=True)]
    ((low, high),) = ((0, 255),) if intensity == "keep" else intensity
    return [ScaleIntensityRanged("image", a_min=low, a_max=high, b_min=0, b_max=255, clip=True)]


def as_channels(volume):
    """Reorder (1, X, Y, Z) to the slices of `Prepared.channels`."""
    return volume[0].permute(2, 1, 0).flip(1, 2)
