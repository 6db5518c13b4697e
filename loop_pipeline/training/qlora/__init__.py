"""Trains an adapter; imports torch, so only the training process loads it."""

import logging

# It warns on import that a kernel is missing which `load_model` never lets it use.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in str(record.msg)
)
