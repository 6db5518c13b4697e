from __future__ import annotations

import pytest

from loop_pipeline.masking import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:s3cret@db:5432/loop", "postgresql://***@db:5432/loop"),
        ("https://ann:a@b/c:d@host/x", "https://***@host/x"),
        ("https://t0ken@host", "https://***@host"),
        ("http://host/a?token=abc&page=2", "http://host/a?token=***&page=2"),
        ("s3://bucket?X-Amz-Signature=abc", "s3://bucket?X-Amz-Signature=***"),
        ("no answer from 'http://a:b@c' at a@b.org", "no answer from 'http://***@c' at a@b.org"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
        ("sqlite:////home/ann/loop.db", "sqlite:////home/ann/loop.db"),
    ],
)  # fmt: skip
def test_passwords_and_keys_in_addresses_are_never_shown(text: str, shown: str) -> None:
    assert masked(text) == shown
