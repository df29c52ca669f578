import os
import subprocess
from pathlib import Path

import pytest

from lab.machine import Machine, MachineError


def started(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_no_process_is_known_before_the_first_start(tmp_path):
    assert Machine(tmp_path).process is None
    assert Machine(tmp_path).leader is None


def test_a_process_id_that_was_given_to_another_program_is_not_ours(tmp_path):
    (tmp_path / "process").write_text(f"{os.getpid()} {started(os.getpid())}\n")
    assert Machine(tmp_path).process == os.getpid()
    (tmp_path / "process").write_text(f"{os.getpid()} 12345\n")
    assert Machine(tmp_path).process is None


def test_a_zombie_does_not_run(tmp_path):
    with subprocess.Popen(["true"]) as child:
        (tmp_path / "process").write_text(f"{child.pid} {started(child.pid)}\n")
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Machine(tmp_path).process is None


def test_nothing_runs_in_a_machine_that_is_down(tmp_path):
    with pytest.raises(MachineError, match="not up; run: make lab"):
        Machine(tmp_path).run("true")


def test_stopping_what_does_not_run_is_no_error(tmp_path):
    Machine(tmp_path).stop()
