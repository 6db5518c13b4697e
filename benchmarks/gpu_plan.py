"""What `gpu_proof` trains, for how many steps and how long it may take; imports no torch.

The parts that run it are in `gpu_parts`; what is made of their figures is in `gpu_proof`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop_pipeline.recipe import Profile, QLoRAConfig
from loop_pipeline.training.memory_estimate import Architecture, architecture

# Each process with its parts, and the seconds that it may take. What one leaves over, the next has.
PROCESSES = (
    (("ceiling", "base"), 75),
    (("killed",), 110),
    (("resumed", "inference"), 90),
    (("full_rows", "rival"), 185),
)
NARROW_HEAD = 8
NARROW_VOCABULARY = 4096  # as many tokens as a tokenizer of `train_tokenizer` may have
SMALL_LENGTH = 64
ANSWER_SHARE = 0.25  # of a row's tokens
# A killed process must have taken steps behind its checkpoint: they are done twice.
DONE_TWICE = 2
# Steps that are sure to be left when it is killed; packing makes a few less of the same rows.
LEFT_OVER = 4


def narrow(shape: Architecture, layers: int) -> Architecture:
    """The same heads and ratios with eight values a head, few layers and few tokens."""
    scale = shape.head // NARROW_HEAD
    return Architecture(
        hidden=shape.hidden // scale,
        layers=layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head=NARROW_HEAD,
        intermediate=shape.intermediate // scale,
        vocabulary=NARROW_VOCABULARY,
        tied=shape.tied,
        attention_bias=shape.attention_bias,
        head_norm=shape.head_norm,
    )


def flops_per_token(shape: Architecture, answer_share: float) -> float:
    """Operations of a token's forward pass and of its backward pass through frozen weights.

    Two each a parameter. The head works on the answers alone. What is recomputed, the adapters and
    attention scores are not counted.

    Args:
        shape: Of the model.
        answer_share: Of the tokens, those that carry loss.
    """
    return 4 * (shape.quantised + shape.vocabulary * shape.hidden * answer_share)


@dataclass(frozen=True)
class Plan:
    """A profile's recipe, and the size of the proof: the whole model, or a narrow one for a CPU."""

    profile: Profile
    small: bool

    @property
    def recipe(self) -> QLoRAConfig:
        """The profile's, packed; one epoch, a line a step, a checkpoint behind the timed steps."""
        recipe = QLoRAConfig.from_profile(
            self.profile,
            packing="bfd",
            num_train_epochs=1.0,
            logging_steps=1,
            save_steps=self.checkpoint,
        )
        shorter = {"max_length": SMALL_LENGTH} if self.small else {}
        return recipe.model_copy(update=shorter)

    @property
    def shape(self) -> Architecture:
        """Of the model that is trained."""
        shape = architecture(self.recipe)
        return narrow(shape, layers=2) if self.small else shape

    @property
    def rows_a_step(self) -> int:
        """Rows of one step."""
        return self.recipe.per_device_train_batch_size * self.recipe.gradient_accumulation_steps

    @property
    def patience(self) -> int:
        """How much longer than on a GPU's own machine a process may take: a CPU is shared."""
        return 4 if self.small else 1

    @property
    def warm_up(self) -> int:
        """Steps before the clock starts."""
        return 1 if self.small else 3

    @property
    def timed(self) -> int:
        """Steps that the clock runs."""
        return 4 if self.small else 30

    @property
    def checkpoint(self) -> int:
        """The step that the first process leaves a checkpoint of."""
        return self.warm_up + self.timed

    @property
    def kill_step(self) -> int:
        """The step in which the first process is killed."""
        return self.checkpoint + DONE_TWICE + 1

    @property
    def rows(self) -> int:
        """Rows of the training set."""
        return self.rows_a_step * (self.kill_step + LEFT_OVER)

    @property
    def rival_steps(self) -> int:
        """Where the rival ends; 0: at the end of the rows, so that what it saw can be compared."""
        return 0 if self.small else self.checkpoint

    @property
    def full_steps(self) -> tuple[int, int]:
        """Steps with rows of the full length: before the clock starts, and timed."""
        return (1, 2) if self.small else (1, 4)


def base_of(work: Path) -> Path:
    """Folder of the random base."""
    return work / "base"


def steps_file(work: Path, part: str) -> Path:
    """Where a part that trains writes a line a step."""
    return work / f"{part}.steps.jsonl"
