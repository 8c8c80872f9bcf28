"""Loading the model that is asked."""

from __future__ import annotations

from typing import Any

import torch

from sstoken_plugins.model.quantised import keep_4bit_differentiable
from sstoken_transformers.files import why_no_model

from .errors import AuditError

CPU_BATCH_TOKENS, BATCH_TOKENS = 512, 16384
"""Of a pass. A CPU has nothing to gain from larger ones: 2,048 were 10 to 20 % slower."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_tokenizer(name: str, trust_remote_code: bool = False) -> Any:
    """The model's own tokenizer.

    Raises:
        AuditError: if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise AuditError(f"--model {name}: {why_no_model(name, error)}") from error


def load(
    name: str, dtype: Any = "auto", load_in_4bit: bool = False, adapter: str | None = None, device: str | None = None,
    **options: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Model and tokenizer.

    Args:
        name: folder or hub name.
        dtype: a torch.dtype or its name; `auto`: bfloat16 on an accelerator, else float32.
        load_in_4bit: NF4, which computes in `dtype`.
        options: further arguments of `from_pretrained`.

    Raises:
        AuditError: if it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    where = device or (accelerator.type if accelerator is not None else "cpu")
    if isinstance(dtype, str) and dtype != "auto" and dtype not in DTYPES:
        raise AuditError(f"--dtype is {dtype!r}: choose auto, {', '.join(DTYPES)}.")
    usual = torch.float32 if torch.device(where).type == "cpu" else torch.bfloat16
    options["dtype"] = DTYPES.get(dtype, usual) if isinstance(dtype, str) else dtype
    if load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=options["dtype"]
        )
    quantised = options.get("quantization_config") is not None
    if quantised:
        options["device_map"] = {"": where}
    try:
        tokenizer = load_tokenizer(name, options.get("trust_remote_code", False))
        model = AutoModelForCausalLM.from_pretrained(name, **options)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter)
    except AuditError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise AuditError(f"--model {name}: {why_no_model(name, error)}") from error
    keep_4bit_differentiable(model)  # so that a 4-bit layer computes here as in training
    return (model if quantised else model.to(where)), tokenizer
