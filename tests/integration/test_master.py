"""`python -m managed_k8s.master` with real daemons, in two checkouts of one user."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from managed_k8s.openstack import project_binding
from managed_k8s.state.store import Store
from tests.integration.conftest import PARTS, ROOT

pytestmark = pytest.mark.timeout(1800)
# Its ports are Salt's own, so it has an address that nobody else listens on.
ADDRESS = "127.77.45.6"


@pytest.fixture
def home(tmp_path_factory):
    import tempfile

    # Sockets' paths are short, so the folder is.
    folder = Path(tempfile.mkdtemp(prefix="mk8s-"))
    with socket.socket() as probe:
        try:
            probe.bind((ADDRESS, 4505))
        except OSError as error:
            pytest.skip(f"{ADDRESS}:4505: {error}")
    yield folder
    master(folder, folder / "a", "stop")
    shutil.rmtree(folder)


def checkout(folder):
    folder.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    for name in ("master.d", "cloud.providers.d", "salt"):
        (folder / name).mkdir()
    kept = yaml.safe_load((ROOT / "master.d" / "managed-k8s.conf").read_text())
    # One worker and no sweep are enough.
    del kept["schedule"]
    (folder / "master.d" / "managed-k8s.conf").write_text(yaml.safe_dump({**kept, "worker_threads": 3}))
    return folder


def master(home, root, *words):
    environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "s"), "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "managed_k8s.master", *words]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return done.stdout + done.stderr


def test_checkouts_of_a_user_share_one_salt_master_which_always_runs_what_is_there(home):
    one, other = checkout(home / "a"), checkout(home / "b")
    start = ("start", "--interface", ADDRESS)
    assert f"is up on {ADDRESS}" in master(home, one, *start)
    first = master(home, one, "status")
    assert "runs as process" in first
    assert "is up." in master(home, one, *start)
    assert master(home, one, "status") == first, "one that runs is left alone"

    assert "another checkout; this one takes over" in master(home, other, *start)
    assert master(home, other, "status") != first
    assert "is up." in master(home, other, *start)

    (other / "managed_k8s" / "plan.py").open("a").write("# newer\n")
    assert "started anew, with what is in this checkout now" in master(home, other, *start)

    state = home / "s" / "managed-k8s" / "salt"
    Store(state, "demo").write(project_binding.FILE, {"project_id": "p", "auth_url": "https://gone:5000/v3"})
    assert "does not run" not in master(home, other, "status")
    assert "its keys and state are removed" in master(home, other, "forget", "--auth-url", "https://gone:5000/v3")
    assert "does not run" in master(home, other, "status")
    assert not state.exists()

    environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "s"), "PYTHONPATH": str(other)}
    done = subprocess.run(
        [Path(sys.executable).with_name("salt-run"), "managed_k8s.validate"],
        cwd=other, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "there are no settings" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
