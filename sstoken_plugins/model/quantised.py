"""4-bit layers of bitsandbytes."""

from __future__ import annotations

from typing import Any


def keep_4bit_differentiable(model: Any) -> None:
    """Stops bitsandbytes from repacking 4-bit layers in evaluation, on CPUs with AVX512-BF16.

    The repacked layers serve inference only: after one evaluation, the gradients of all later training steps are
    wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
