"""Which model to train on, and how it is loaded: NF4 with double quantisation.

Not here: making a base (``training/base_model.py``).
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from loop_pipeline.recipe import QLoRAConfig, is_hub_id
from loop_pipeline.training.base_folder import check_folder

LEAST_TOKENS = 256  # the bytes


def resolve_base(config: QLoRAConfig, base_dir: Path) -> str:
    """Say which model to load: a hub id, or a folder that is checked.

    Raises:
        ValueError: if there is no model, or one without a chat template.
    """
    name = config.base_model or str(base_dir)
    if not config.base_model or not is_hub_id(name):
        check_folder(Path(name), made_here=not config.base_model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"base model {name!r} has no readable tokenizer: {first}") from error
    if len(tokenizer) < LEAST_TOKENS:  # transformers makes an empty one where the files are missing
        raise ValueError(
            f"base model {name!r} has no readable tokenizer: {len(tokenizer)} tokens are known"
        )
    if not tokenizer.chat_template:
        raise ValueError(f"base model {name!r}: its tokenizer has no chat template; use a chat one")
    return name


def load_quantised(base: str) -> torch.nn.Module:
    """Load a base in NF4 with double quantisation, on this process's GPU if there is one."""
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # FSDP shards parameters of one type only: https://huggingface.co/docs/bitsandbytes/fsdp_qlora
        bnb_4bit_quant_storage=dtype if sharded() else torch.uint8,
    )
    place = {"": int(os.environ.get("LOCAL_RANK", "0")) if gpu else "cpu"}
    model = AutoModelForCausalLM.from_pretrained(
        base,
        quantization_config=quantised,
        dtype=dtype,
        device_map=None if sharded() else place,
        attn_implementation="flash_attention_2" if flash_attention() else "sdpa",
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On processors with AVX512-BF16 an evaluation packs the weights for its own use, and
            # packed ones pass no gradient on: layers below would learn nothing from then on.
            module.support_avx512bf16_for_cpu = False
    return model


def sharded() -> bool:
    """Whether this process is one of several that hold a part of the model each (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def flash_attention() -> bool:
    """Whether attention can be block-diagonal without a mask, so that packing pays."""
    from transformers.utils.import_utils import is_flash_attn_2_available

    return torch.cuda.is_available() and is_flash_attn_2_available()
