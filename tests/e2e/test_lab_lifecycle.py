"""The lab itself: up, down, killed at any point, made by other inputs.  Slow: it goes down and up several times.

Its servers and volumes are the witnesses that nothing is lost.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab import settings
from tests.support import footprint
from tests.support.command_line import CHECKOUT, command, lab, variables

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def up_at_the_end():
    yield
    lab("up")


@pytest.fixture(scope="module")
def witness(project, up_at_the_end):
    """A server with a file on its disk and one on a volume."""
    server, volume = project.make_server("witness"), project.make_volume("witness")
    device = project.attach(server, volume)
    server.ssh(f"sudo mkfs.ext4 -q {device} && sudo mount {device} /mnt && echo kept | sudo tee /mnt/kept ~/kept; sync")
    return server, device


@pytest.fixture
def nothing_lost(witness):
    server, device = witness
    yield
    server.wait_for_ssh()
    assert server.ssh("cat kept") == "kept"
    assert server.ssh(f"sudo mount {device} /mnt 2>/dev/null; cat /mnt/kept") == "kept"


def timed(*arguments, **options):
    start = time.monotonic()
    lab(*arguments, **options)
    return time.monotonic() - start


def stamps():
    """When each process of the lab was started: another lab has others."""
    folder = settings.load().state
    return (folder / "machine" / "process").read_text()


@pytest.mark.usefixtures("nothing_lost")
def test_up_when_up_changes_nothing_and_is_quick():
    lab("up")
    before = stamps()
    assert timed("up") < 5
    assert stamps() == before


@pytest.mark.usefixtures("nothing_lost")
def test_down_leaves_nothing_behind_and_up_brings_everything_back():
    folder = settings.load().state
    lab("down")
    before = footprint.take(folder)
    lab("up")
    lab("fault", "fill-disk", "e2e-witness")
    lab("fault", "undo", "fill-disk", "e2e-witness")
    assert footprint.left_behind(before, footprint.take(folder)), "a lab that is up was not seen"
    lab("down")
    assert footprint.left_behind(before, footprint.take(folder)) == []
    assert lab("status", check=False).returncode == 1
    lab("down")
    lab("up")


def kill_up_after(seconds, env=None):
    """Start `lab up` and kill it and its children after a while, unless it was faster; return whether it was killed."""
    with subprocess.Popen(
        command("up"),
        cwd=CHECKOUT,
        env=variables(env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


@pytest.mark.usefixtures("nothing_lost")
def test_up_after_an_up_that_was_killed_works():
    lab("down")
    seconds = timed("up")
    for share in (0.05, 0.3, 0.6, 0.9):
        lab("down")
        after = seconds * (share + random.uniform(-0.05, 0.05))
        print(f"killed after {after:.1f} s of {seconds:.1f} s")
        kill_up_after(after)
        lab("up")


@pytest.mark.usefixtures("nothing_lost")
def test_half_dead_lab_is_repaired():
    machine = int(stamps().split()[0])
    os.kill(machine, signal.SIGKILL)
    lab("up")
    assert lab("status").returncode == 0


@pytest.mark.usefixtures("nothing_lost")
def test_state_made_from_other_inputs_is_recognised(tmp_path):
    before = stamps()
    refused = lab("up", check=False, env=other_settings(tmp_path, underlay_network="10.78.1.0/24"))
    assert refused.returncode == 1
    assert "underlay_network" in refused.stderr
    assert "--rebuild" in refused.stderr
    assert stamps() == before
    lab("up")


@pytest.fixture
def another_lab(tmp_path, witness):
    """Settings of a lab with a state of its own, while ours is down."""
    state = settings.load().state.with_name("lab-e2e")
    env = other_settings(tmp_path, state=state)
    lab("down")
    lab("destroy", "--yes", env=env)
    yield env
    lab("destroy", "--yes", env=env)
    assert not state.exists()
    lab("up")


def test_first_up_goes_on_after_it_was_killed(another_lab):
    folder = settings.load().state.with_name("lab-e2e")
    before = footprint.take(folder)
    # Where it is killed does not matter, only that it is, while it sets OpenStack up.
    for seconds in (15, 35, 50):
        killed_after = seconds + random.uniform(-5, 5)
        print(f"killed after {killed_after:.1f} s: {kill_up_after(killed_after, another_lab)}")
    lab("up", env=another_lab)
    assert lab("status", env=another_lab).returncode == 0
    assert timed("up", env=another_lab) < 5
    lab("destroy", "--yes", env=another_lab)
    assert footprint.left_behind(before, footprint.take(folder)) == []
    assert not folder.exists()


def other_settings(folder, *, state: Path | None = None, **ranges):
    """Return the environment that gives the lab settings other than the user's."""
    now = settings.load()
    addresses = {name: getattr(now.addresses, name) for name in ("api_network", "underlay_network", "external_network")}
    lines = [
        f"kubernetes = {list(now.kubernetes)!r}",
        f'state = "{state or now.state}"',
        f'cache = "{now.cache}"',
        "[addresses]",
        *(f'{name} = "{value}"' for name, value in (addresses | ranges).items()),
    ]
    file = folder / "managed-k8s" / "lab.toml"
    file.parent.mkdir()
    file.write_text("\n".join(lines))
    assert settings.load(file).state == (state or now.state)
    return {"XDG_CONFIG_HOME": str(folder)}
