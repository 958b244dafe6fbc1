"""Networks of timm whose weights and statistics are drawn."""

import timm
import torch
from torch import nn

from pipeline.learning.models.families import options_of

REGISTRY = {
    "vgg16_bn": 64,
    "resnet18": 64,
    "resnet50": 64,
    "densenet121": 64,
    "tf_efficientnet_lite0": 64,
    "efficientnet_b0": 64,
    "convnext_tiny": 64,
    "mobilenetv4_conv_small": 64,
    "convnextv2_atto": 64,
    "tiny_vit_5m_224": 64,
    "vit_small_patch16_224": 48,
    "vit_small_patch16_dinov3": 48,
}
FLAT = ["tiny_vit_5m_224", "davit_tiny", "vit_small_patch16_224", "vit_small_patch16_dinov3"]  # not inflatable


@torch.no_grad()
def lively(name, size):
    """A random network of timm whose features differ from image to image, as those of a trained one do."""
    model = timm.create_model(name, num_classes=0, **options_of(name))
    for key, value in model.named_parameters():
        if key.endswith(("gamma", "gamma_1", "gamma_2", "grn.weight")):
            value.fill_(0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train().forward_features(torch.randn(4, 3, size, size))
    return model.eval()
