"""What a process that the loop starts may know of its environment, and that it ends with it.

How messages are kept free of secrets is in `masking`.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
from collections.abc import Iterable

from loop_pipeline.masking import holds_password, is_secret_name

PR_SET_PDEATHSIG = 1
# What programs find their files, libraries and language by, and what the libraries of models and
# servers are set up by. Whatever looks like a secret is left out nevertheless.
ALLOWED = re.compile(
    r"""
    PATH | HOME | USER | LOGNAME | SHELL | LANG | LANGUAGE | LC_.* | TZ | TERM | TMPDIR | TMP | TEMP
    | XDG_.* | VIRTUAL_ENV | PYTHON.* | LD_LIBRARY_PATH | LD_PRELOAD | LIBRARY_PATH | CC | CXX
    | SSL_CERT_(FILE|DIR) | (REQUESTS|CURL)_CA_BUNDLE | (HTTP|HTTPS|ALL|NO)_PROXY | DO_NOT_TRACK
    | (http|https|all|no)_proxy | (LOCAL_)?WORLD_SIZE | (LOCAL_)?RANK | MASTER_(ADDR|PORT)
    | (CUDA|NVIDIA|NCCL|GLOO|ROCM|HIP|HSA|VLLM|HF|HUGGINGFACE|TRANSFORMERS|TOKENIZERS)(_.*)?
    | (ACCELERATE|FSDP|BNB|BITSANDBYTES|TORCH\w*|PYTORCH|TRITON|OMP|KMP|GOMP|MKL|DNNL)_.*
    | (ONEDNN|OPENBLAS|BLIS|NUMEXPR|ORT|MALLOC|MLFLOW|LOOP|COVERAGE|COV_CORE)_.*
    """,
    re.VERBOSE,
)
# The training may fetch a base model and records what it does.
TRAINING_SECRETS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HTTPS_PROXY",
    "https_proxy",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
# The key that clients of the student's server must show.
SERVER_SECRETS = ("VLLM_API_KEY",)


def child_environment(secrets: Iterable[str] = (), /, **variables: str) -> dict[str, str]:
    """The environment of a child process: no key, token or password that it does not need.

    Args:
        secrets: names of secrets that this child needs.
        **variables: what is set beside or instead.
    """
    needed = frozenset(secrets)
    found = {k: v for k, v in os.environ.items() if k in needed or _harmless(k, v)}
    return found | variables


def _harmless(name: str, value: str) -> bool:
    allowed = ALLOWED.fullmatch(name) and not is_secret_name(name)
    return bool(allowed) and not holds_password(value)


def die_with_parent() -> None:
    """For ``preexec_fn``: end a child when the process that started it is gone."""
    # Without this, a supervisor that is killed leaves a server nobody owns on the port.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
