"""The command line and the environment that a vLLM server is started with.

Who starts it, and starts it again, is in ``supervisor``.
"""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from loop_pipeline.child_environment import SERVER_SECRETS, child_environment
from loop_pipeline.masking import masked
from loop_pipeline.recipe import is_hub_id

# The ranks vLLM has kernels for.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


GPU_SERVER = ["-m", "vllm.entrypoints.openai.api_server"]


# -P: the folder of the script holds a module named kubernetes, too.
CPU_SERVER = ["-P", str(Path(__file__).with_name("cpu_lora.py"))]


def check_interpreter(serve_python: Path) -> None:
    """Look whether the interpreter that has vLLM is there.

    Raises:
        SystemExit: it is not; one line on how to get it.
    """
    if not serve_python.exists():
        raise SystemExit(
            f"no interpreter with vLLM at {serve_python}: run `make serve-env` first; without the "
            "repository, install vllm==0.32.0 in an environment of its own (it needs a GPU) and "
            "name its interpreter with LOOP_SERVE_PYTHON"
        )


def check_start(base: str, url: str, serve_python: Path) -> None:
    """End with one line if a server cannot be started like this."""
    check_interpreter(serve_python)
    if not is_hub_id(base) and not (Path(base) / "config.json").exists():
        raise SystemExit(f"{base} is no model folder (it has no config.json)")
    host, port = _address(url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SystemExit(
                f"cannot listen at {masked(url)}: {error.strerror}; stop what is there or set"
                " LOOP_VLLM_URL"
            ) from None


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise SystemExit(f"{masked(url)!r} is no address to serve at; write http://127.0.0.1:8199")
    return host, port


def server_command(base: str, url: str, python: Path, rank: int, length: int) -> list[str]:
    """The command line of a vLLM server."""
    host, port = _address(url)
    fitting = [r for r in RANKS if r >= rank]
    if not fitting:
        raise SystemExit(f"vLLM serves adapters up to rank {RANKS[-1]}, not {rank}")
    # The path is not resolved: through its link, the interpreter would lose its environment.
    command = [str(python.absolute()), *(GPU_SERVER if _has_gpu() else CPU_SERVER)]
    command += ["--model", base, "--served-model-name", "base"]
    command += ["--host", host, "--port", str(port), "--max-model-len", str(length)]
    command += ["--enable-lora", "--max-lora-rank", str(fitting[0])]
    # Champion, canary and previous champion; a fourth is being evaluated.
    command += ["--max-loras", "3", "--max-cpu-loras", "4"]
    command += ["--disable-log-stats", "--distributed-executor-backend", "uni"]
    if _has_gpu():
        return [*command, "--dtype", "bfloat16"]
    return [*command, "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "64"]


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def server_environment() -> dict[str, str]:
    """What the server is told of this process's environment."""
    return child_environment(
        SERVER_SECRETS,
        VLLM_ALLOW_RUNTIME_LORA_UPDATING="True",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        HF_HUB_OFFLINE="1",
        # Beside other work on the same cores, threads that spin while they wait slow each other.
        OMP_WAIT_POLICY="PASSIVE",
    )
