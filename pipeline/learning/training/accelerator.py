"""Choose the device of a training."""

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs


def make_accelerator(device: str | None) -> Accelerator:
    """Choose the device (None: CUDA if available) and its precision: bfloat16 on CUDA, else float32."""
    on_cuda = torch.cuda.is_available() and device != "cpu"
    torch.use_deterministic_algorithms(True, warn_only=True)
    several = DistributedDataParallelKwargs(find_unused_parameters=True)  # attention is unused with a single instance
    return Accelerator(mixed_precision="bf16" if on_cuda else "no", cpu=not on_cuda, kwargs_handlers=[several])
