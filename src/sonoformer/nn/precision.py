"""Where bfloat16 pays."""

from __future__ import annotations

import torch


def bf16_is_fast(device: torch.device | str) -> bool:
    """Whether `device` multiplies bf16 matrices faster than fp32 ones.

    CUDA from compute capability 8.0 (Ampere) on; x86 CPUs with AVX512-BF16 or AMX. Elsewhere bf16
    is emulated and slower than fp32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
