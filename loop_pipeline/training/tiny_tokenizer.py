"""The tokenizer of the tiny base: byte-level BPE with ChatML turns, trained on the run's own rows.

Other bases bring theirs; what a chat template makes of a row is in ``qlora.tokens``.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from loop_pipeline.traces.messages import content_text
from loop_pipeline.training.qlora.tokens import Row

# A small set cannot teach the meaning of rare tokens: one token for every third row.
VOCABULARY = 4096
SMALLEST_VOCABULARY = 1024
ROWS_PER_TOKEN = 3

UNKNOWN = "<|endoftext|>"
END = "<|im_end|>"
PAD = "<|pad|>"
MASK = "<|mask|>"
TURNS = ["<|im_start|>system\n", "\n<|im_start|>user\n", "\n<|im_start|>assistant\n"]
SPECIALS = [UNKNOWN, "<|im_start|>", END, PAD, MASK, *TURNS]  # ids 0, 1, 2, ...
END_ID = SPECIALS.index(END)
PAD_ID = SPECIALS.index(PAD)
MASK_ID = SPECIALS.index(MASK)
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(rows: list[Row], max_length: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with ChatML turns on the rows' texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    bpe.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=min(VOCABULARY, max(SMALLEST_VOCABULARY, len(rows) // ROWS_PER_TOKEN)),
        min_frequency=2,
        show_progress=False,
        # One token a turn: a third of a short request would be scaffolding otherwise.
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    turns = (turn for row in rows for turn in row["prompt"] + row["completion"])
    texts = (content_text(turn.get("content")) or "" for turn in turns)
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        mask_token=MASK,
        model_max_length=max(1024, max_length),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
