"""vLLM's OpenAI server with its adapter arithmetic for CPUs corrected. Runs in its environment.

Not here: anything for a GPU; vLLM has kernels of its own.

Two faults of vLLM 0.32's CPU path (``vllm/lora/ops/torch_ops/lora_ops.py``): a row without adapter
has index -1, which in Python is the *last* adapter, so such a row is changed by an adapter it did
not ask for; and the weights are copied once a token, which costs more than the model itself. On a
GPU, vLLM has kernels of its own.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from typing import Any

# This module alone runs where vLLM is installed, and nothing imports it.
import vllm.lora.ops.torch_ops.lora_ops as ops  # noqa: TID251 # pyright: ignore[reportMissingImports]
import vllm.lora.punica_wrapper.punica_cpu as wrapper  # noqa: TID251 # pyright: ignore
from torch import Tensor


def _products(inputs: Tensor, weights: Tensor, indices: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Rows of each adapter in the batch, and ``inputs @ weights.T`` for them."""
    slots = indices.unique().tolist()
    for slot in slots:
        if slot >= 0:
            rows = slice(None) if len(slots) == 1 else (indices == slot).nonzero().squeeze(1)
            yield rows, inputs[rows] @ weights[slot].to(inputs.dtype).reshape(-1, inputs.shape[1]).T


def shrink(
    inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, scaling: float = 1.0
) -> None:
    """Replaces ``bgmv_shrink``."""
    rank = weights.shape[-2]
    output[:, :rank] = 0
    for rows, product in _products(inputs.to(output.dtype), weights, indices):
        output[rows, :rank] = scaling * product


def expand(
    inputs: Tensor, weights: Tensor, output: Tensor, indices: Tensor, add_inputs: bool = True
) -> None:
    """Replaces ``bgmv_expand``."""
    width = min(weights.shape[-2], output.shape[1])
    expand_slice(inputs, weights[..., :width, :], output, indices, 0, width, add_inputs)


def expand_slice(
    inputs: Tensor,
    weights: Tensor,
    output: Tensor,
    indices: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """Replaces ``bgmv_expand_slice``."""
    part = output[:, slice_offset : slice_offset + slice_size]
    if not add_inputs:
        part.zero_()
    for rows, product in _products(inputs.to(output.dtype), weights, indices):
        part[rows] += product


for module in (ops, wrapper):
    vars(module).update(bgmv_shrink=shrink, bgmv_expand=expand, bgmv_expand_slice=expand_slice)


if __name__ == "__main__":
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
