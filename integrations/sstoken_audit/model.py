"""Loading the model that is asked."""

from __future__ import annotations

from typing import Any

import torch

from .errors import AuditError

CPU_BATCH_TOKENS, BATCH_TOKENS = 2048, 16384
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
        raise AuditError(f"--model {name}: {error}") from error


def load(
    name: str, dtype: str = "auto", load_in_4bit: bool = False, adapter: str | None = None, device: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """Model and tokenizer.

    Args:
        name: folder or hub name.
        dtype: `auto`: bfloat16 on an accelerator that has it, else float32.

    Raises:
        AuditError: if it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    where = device or (accelerator.type if accelerator is not None else "cpu")
    if dtype != "auto" and dtype not in DTYPES:
        raise AuditError(f"--dtype is {dtype!r}: choose auto, {', '.join(DTYPES)}.")
    chosen = DTYPES.get(dtype, torch.float32 if torch.device(where).type == "cpu" else torch.bfloat16)
    options: dict[str, Any] = {"dtype": chosen, "trust_remote_code": trust_remote_code}
    if load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=chosen
        )
        options["device_map"] = {"": where}
    try:
        tokenizer = load_tokenizer(name, trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(name, **options)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter)
    except AuditError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise AuditError(f"--model {name}: {error}") from error
    return (model if load_in_4bit else model.to(where)), tokenizer
