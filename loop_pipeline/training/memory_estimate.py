"""What QLoRA of a profile needs on one GPU, without loading or downloading anything.

Not here: what a run has needed; it says that itself (``qlora/progress.py``).

An estimate for planning, from the shapes alone; a training says itself what it has needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.whole_file import read_object

# NF4 and its constants, quantised twice: 4 + 0.127 bits (Dettmers et al. 2023, section 3).
NF4_BYTES = 4.127 / 8
BF16 = 2
FP32 = 4
# CUDA context, kernels' workspace and what the allocator cannot use. Assumed, not measured.
OVERHEAD = 1.5e9


@dataclass(frozen=True)
class Architecture:
    """Shapes of a Llama-like decoder with grouped-query attention and SwiGLU."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    intermediate: int
    vocabulary: int
    tied: bool
    attention_bias: bool = False
    head_norm: bool = False

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(in, out) of a layer's quantised matrices: q, k, v, o, gate, up, down."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        h, m = self.hidden, self.intermediate
        return [(h, q), (h, kv), (h, kv), (q, h), (h, m), (h, m), (m, h)]

    @property
    def quantised(self) -> int:
        """Parameters in 4 bits."""
        return self.layers * sum(a * b for a, b in self.linears)

    @property
    def others(self) -> int:
        """Parameters in 16 bits: embeddings, head, norms, biases."""
        bias = (self.heads + 2 * self.kv_heads) * self.head * self.attention_bias
        norms = 2 * self.hidden + 2 * self.head * self.head_norm
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.hidden + self.layers * (norms + bias)

    def adapter(self, rank: int) -> int:
        """Parameters of LoRA on every linear layer."""
        return self.layers * rank * sum(a + b for a, b in self.linears)


# From the models' config.json.
KNOWN = {
    "smollm2-135m": Architecture(576, 30, 9, 3, 64, 1536, 49152, tied=True),
    "qwen2.5-7b": Architecture(
        3584, 28, 28, 4, 128, 18944, 152064, tied=False, attention_bias=True
    ),
    "qwen3-8b": Architecture(4096, 36, 32, 8, 128, 12288, 151936, tied=False, head_norm=True),
}


class MemoryEstimate(BaseModel):
    """Bytes on each GPU, at the largest micro-batch."""

    weights: float
    adapter_and_optimizer: float
    activations: float
    overhead: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.adapter_and_optimizer + self.activations + self.overhead


def architecture(config: QLoRAConfig, base_dir: Path | None = None) -> Architecture:
    """Shapes of a recipe's base: of a folder if there is one, else of its profile.

    Raises:
        ValueError: neither is known.
    """
    folder = base_dir or Path(config.base_model or ".")
    if (folder / "config.json").is_file():
        mend = "it is no model's configuration"
        return read_architecture(read_object(folder / "config.json", mend=mend))
    if config.profile not in KNOWN:
        raise ValueError(f"profile {config.profile!r} has no base yet: name its folder")
    return KNOWN[config.profile]


def read_architecture(shapes: dict[str, object]) -> Architecture:
    """Shapes from the content of a ``config.json``.

    Raises:
        ValueError: it is not that of a Llama-like decoder.
    """
    numbers = {k: v for k, v in shapes.items() if isinstance(v, int)}
    try:
        hidden, heads = numbers["hidden_size"], numbers["num_attention_heads"]
        return Architecture(
            hidden=hidden,
            layers=numbers["num_hidden_layers"],
            heads=heads,
            kv_heads=numbers.get("num_key_value_heads", heads),
            head=numbers.get("head_dim", hidden // heads),
            intermediate=numbers["intermediate_size"],
            vocabulary=numbers["vocab_size"],
            tied=bool(shapes.get("tie_word_embeddings", False)),
            attention_bias=shapes.get("model_type") == "qwen2",
            head_norm=shapes.get("model_type") == "qwen3",
        )
    except KeyError as error:
        raise ValueError(f"config.json of no Llama-like decoder: {error} is missing") from error


def layer_activations(shape: Architecture, rank: int, value: int = BF16) -> float:
    """Bytes a token that one layer keeps for its backward pass.

    Frozen matrices need no input for their gradients, but their adapters do, each its own: the
    dropped-out copy and a one-byte mask. The rest are norms (computed in 32 bits), attention and
    the two factors of SwiGLU.

    Args:
        shape: Of the model.
        rank: Of the adapters.
        value: Bytes of a value.
    """
    adapters = sum(a * (value + 1) + rank * value for a, _ in shape.linears)
    norms = 2 * shape.hidden * (FP32 + value)
    attention = value * shape.head * 2 * (shape.heads + shape.kv_heads)
    swiglu = 3 * shape.intermediate * value
    return adapters + norms + attention + swiglu


def estimate_memory(config: QLoRAConfig, base_dir: Path | None = None) -> MemoryEstimate:
    """Memory of QLoRA on one GPU: 4-bit base, 16-bit adapters, 8-bit optimizer.

    The logits are never held whole (TRL computes the loss in tiles); there is no key-value cache.

    Args:
        config: The recipe.
        base_dir: Folder of the base, if it is not the profile's.

    Raises:
        ValueError: the base is not known, or no Llama-like decoder.
    """
    shape = architecture(config, base_dir)
    tokens = config.per_device_train_batch_size * config.max_length
    kept = tokens * layer_activations(shape, config.lora_r)
    if config.gradient_checkpointing:  # every layer's input, and one layer at a time again
        activations = kept + shape.layers * tokens * shape.hidden * BF16
    else:
        activations = kept * shape.layers
    adapter = shape.adapter(config.lora_r)
    return MemoryEstimate(
        weights=NF4_BYTES * shape.quantised + BF16 * shape.others,
        # Weights and gradients in 16 bits, two moments in 8.
        adapter_and_optimizer=adapter * (BF16 + BF16 + 1 + 1),
        activations=activations,
        overhead=OVERHEAD,
    )
