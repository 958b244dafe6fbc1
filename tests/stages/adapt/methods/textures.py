"""Two classes of images that differ in texture, small networks, and a short run on them."""

import copy

import torch
from torch import nn

from pipeline.learning.models.adabn import adabn
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.encoder import Encoder
from pipeline.learning.models.families import Cut
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.stages.adapt.pretraining.continued import Settings, continue_pretraining
from tests.conftest import TINY_ENCODER

SIZE = 32
SETTINGS = Settings(epochs=3, head_epochs=2, patience=9, learning_rate=1e-3, trainable_stages=4, strength=1.0, seed=0)


def views(n, seed):
    """Draw two views of n images: stripes of a period (2 or 8) each, at another place, brightness and noise."""
    draws = torch.Generator().manual_seed(seed)
    periods = torch.tensor([2.0, 8.0]).repeat(n)[:n].view(n, 1, 1, 1)
    angles = torch.rand(n, 1, 1, 1, generator=draws) * torch.pi
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    along = column * torch.cos(angles) + row * torch.sin(angles)

    def view():
        phase, light = torch.rand(2, n, 1, 1, 1, generator=draws)
        noise = 0.1 * torch.randn(n, 3, SIZE, SIZE, generator=draws)
        return (along / periods * 2 * torch.pi + 6 * phase).sin() * (0.5 + light) + noise

    return view(), view()


def pairs(number, n=32, size=16):
    first, second = views(n, 1000 + number)
    return list(zip(first.split(size), second.split(size), strict=True))


HELD_OUT = [views(12, 1), views(12, 2)]


def tiny(name=TINY_ENCODER):
    """Build a random network whose normalisation fits the images: without, its features would hardly differ."""
    torch.manual_seed(3)
    return adabn(build_encoder(name, 3).eval(), views(64, 0))


def maps_of_patches(patch=8, width=32):
    """Build an encoder that cuts an image into patches as a ViT does, and lets each see its neighbours once."""
    torch.manual_seed(3)
    embed = nn.Conv2d(3, width, patch, stride=patch)
    middle = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU())
    last = nn.Conv2d(width, width, 1)
    return Encoder(Cut([embed, middle, last]), 3, 1).eval()


def run(objective_of, settings=SETTINGS, encoder=None, held_out=HELD_OUT, passes=pairs, **others):
    """Train a copy of the encoder; return it and the curve."""
    encoder = copy.deepcopy(encoder or tiny())
    objective = objective_of(encoder)
    curve = continue_pretraining(
        encoder,
        objective,
        pairs=passes,
        held_out=held_out,
        settings=settings,
        accelerator=make_accelerator("cpu"),
        **others,
    )
    return encoder, curve


def same_bits(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
