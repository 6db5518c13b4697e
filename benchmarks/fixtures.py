"""A random model, random adapters, and students in a store: for benchmarks and tests.

Small enough to be served anywhere; nothing here measures or asserts anything.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from sqlalchemy import Engine

from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import CheckpointRow, DatasetRow

BORN = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_model(folder: Path, hidden_size: int = 64) -> Path:
    """A random Qwen2 of two layers whose tokens are single characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    specials = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
    # Only characters of one byte: a token never ends in the middle of one.
    symbols = [*specials, *(chr(c) for c in range(33, 127)), "Ġ", "Ċ"]
    bpe = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(specials)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|pad|>",  # noqa: S106
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(symbols),
        hidden_size=hidden_size,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.3,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, seed: int) -> Path:
    """A random LoRA of rank 8 on all of its linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(seed)
    adapted = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=LINEAR, task_type="CAUSAL_LM")
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(str(folder))
    return folder


def student(checkpoint_id: str) -> dict[str, str]:
    """What a policy says of its student."""
    return {"checkpoint_id": checkpoint_id, "adapter": adapter_name(checkpoint_id)}


def add_student(
    engine: Engine, checkpoint_id: str, *, status: str = "approved", folder: str = ""
) -> None:
    """Put a student and its training set into the store; a later letter is a younger student."""
    at = BORN + dt.timedelta(days=ord(checkpoint_id[0]))
    dataset = {"dataset_id": "d", "created_at": BORN, "folder": "f", "counts": {}}
    row = {
        "checkpoint_id": checkpoint_id,
        "created_at": at,
        "dataset_id": "d",
        "base_dir": "/models/base",
        "adapter_dir": folder or f"/adapters/{checkpoint_id[0]}",
        "adapter_sha256": checkpoint_id,
        "mlflow_run_id": None,
        "model_version": "1",
        "metrics": {},
        "status": status,
        "reason": "test",
    }
    with engine.begin() as connection:
        upsert(connection, DatasetRow, [dataset | {"validated_pairs": 1}])
        upsert(connection, CheckpointRow, [row])
