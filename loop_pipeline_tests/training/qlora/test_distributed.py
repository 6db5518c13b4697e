from __future__ import annotations

import sys

import pytest

pytest.importorskip("trl")
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from loop_pipeline.training.qlora import distributed

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

MODULE = "loop_pipeline.training.qlora.train"


def test_several_gpus_shard_one_base():
    """Accelerate takes the command line as it is meant; no GPU was there to run it."""
    command = distributed.launch_command(MODULE, 4, gpu=True)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    given = launch_command_parser().parse_args(command[3:])
    checked, _, _ = _validate_launch_command(given)
    assert (checked.num_processes, checked.use_fsdp, checked.fsdp_version) == (4, True, "1")
    assert (checked.mixed_precision, checked.fsdp_sharding_strategy) == ("bf16", "FULL_SHARD")
    assert (checked.module, checked.training_script) == (True, MODULE)


def test_one_process_is_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert distributed.wanted_processes(0) == 1
    distributed.become_several(MODULE, 0)  # returns: nothing to do
    assert distributed.is_main()
    assert distributed.main_decides(True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.wanted_processes(0) == 2
    assert distributed.wanted_processes(1) == 1
