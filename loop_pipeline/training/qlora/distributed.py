"""One training process, or several by ``accelerate launch``: the same module, the same input.

Not here: the training itself (``trainer.py``).

With several GPUs the 4-bit base is sharded over them (FSDP-QLoRA); without a GPU the processes are
plain copies that average their gradients.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

# https://huggingface.co/docs/bitsandbytes/fsdp_qlora
FSDP = [
    "--use_fsdp",
    "--fsdp_version=1",
    "--mixed_precision=bf16",
    "--dynamo_backend=no",
    "--fsdp_sharding_strategy=FULL_SHARD",
    "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
    "--fsdp_cpu_ram_efficient_loading=true",
    "--fsdp_sync_module_states=true",
    "--fsdp_use_orig_params=false",
    "--fsdp_state_dict_type=FULL_STATE_DICT",
]


def wanted_processes(asked: int) -> int:
    """As many as were asked for; 0 is one for each GPU, and one where there is none."""
    return asked or max(1, torch.cuda.device_count())


def launch_command(module: str, processes: int, *, gpu: bool) -> list[str]:
    """Command line that runs a module in several processes of this interpreter.

    Without a GPU it is what ``accelerate launch`` itself starts for several GPUs: for CPU
    processes it knows MPI only.
    """
    if not gpu:
        several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [sys.executable, "-m", *several, "--module", module]
    count = [f"--num_processes={processes}", "--num_machines=1", "--main_process_port=0"]
    return [sys.executable, "-m", "accelerate.commands.launch", *count, *FSDP, "--module", module]


def become_several(module: str, asked: int) -> None:
    """Replace this process by several if several are wanted and it is not yet one of them."""
    processes = wanted_processes(asked)
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        command = launch_command(module, processes, gpu=torch.cuda.is_available())
        os.execv(command[0], command)  # noqa: S606


def is_main() -> bool:
    """Whether this process reports, records and saves; true if it is the only one."""
    return os.environ.get("RANK", "0") == "0"


def _state() -> PartialState | None:
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=not torch.cuda.is_available()) if several else None


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if state := _state():
        state.wait_for_everyone()


def main_decides(value: bool) -> bool:
    """What the main process holds for true."""
    if _state() is None:
        return value
    holder = [value]
    broadcast_object_list(holder)
    return holder[0]


def process_input() -> dict[str, Any]:
    """What Dagster passes to the training, for a process that reports nothing itself."""
    from dagster_pipes import PipesDefaultContextLoader, PipesEnvVarParamsLoader

    params = PipesEnvVarParamsLoader().load_context_params()
    with PipesDefaultContextLoader().load_context(params) as data:
        return dict(data["extras"] or {})
