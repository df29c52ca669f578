"""A real Salt master and minions on loopback, run from a copy of the parts of the checkout that they use.

The minions are this machine, and a reconciler is started by events: nothing here may reach a cloud or change a server.
So no account is known, the clusters have names of their own, there are no states, minions refuse to run any, and the
reconcilers' locks are held.
"""

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import salt.config
import yaml

from managed_k8s import paths
from managed_k8s.salt_master import cli
from managed_k8s.state import queue
from managed_k8s.state.store import Store

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "_pillar", "_runners", "_engines", "_output", "_utils", "_modules", "_clouds", "reactor", "managed_k8s", "Saltfile",
)  # fmt: skip
ONE, OTHER = "rehearsal", "stranger"
MINIONS = (f"{ONE}-master-1", f"{ONE}-gateway-1", f"{OTHER}-worker-1")
MAP = {f"{ONE}-{role}": [f"{ONE}-{role}-1"] for role in ("gateway", "master")}
PROVIDER = {"driver": "openstack", "cloud": "no-such-cloud", "minion": {"master": "127.0.0.1"}}
SETTINGS = """managed_k8s:
  openstack:
    cloud: no-such-cloud
    external_network: external
  artifacts:
    url: http://127.0.0.1:1
"""
BIN = Path(sys.executable).parent
# Seconds after which something hangs, even where ten others keep the machine busy.
HANGS = 600


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    numbers = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return numbers


class Salt:
    """The master, its minions and its programs."""

    def __init__(self, folder):
        # Sockets' paths are short, so the folder is.
        self.root, self.state = folder / "c", folder / "s"
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"), str(folder))
        self.environment = {**kept, **homes, "PYTHONPATH": str(self.root)}
        self.processes = []

    def prepare(self):
        self.root.mkdir()
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, self.root / part)
            else:
                shutil.copy(ROOT / part, self.root / part)
        (self.root / "salt").mkdir()
        for part in ("_utils", "_modules"):
            (self.root / "salt" / part).symlink_to(f"../{part}")
        (self.root / "salt" / "reactor").symlink_to("../reactor")
        clusters = self.root / "pillar" / "clusters"
        clusters.mkdir(parents=True)
        for name in (ONE, OTHER):
            (clusters / f"{name}.sls").write_text(SETTINGS)
        (self.root / "cluster.map").write_text(yaml.safe_dump(MAP))
        self._configure_cloud()
        (self.root / "master.d").mkdir()
        kept = yaml.safe_load((ROOT / "master.d" / "managed-k8s.conf").read_text())
        # No sweep comes in between; and nobody made these minions, so nobody put their keys in place.
        del kept["schedule"], kept["auto_accept"]
        (self.root / "master.d" / "managed-k8s.conf").write_text(yaml.safe_dump(kept))
        self.state.mkdir(mode=0o700)
        self.ports = free_ports(2)
        own = cli.configuration(self.root, self.state, "127.0.0.1")
        own |= {"publish_port": self.ports[0], "ret_port": self.ports[1], "log_level": "warning", "worker_threads": 3,
                "user": "root" if os.getuid() == 0 else os.environ["USER"], "auto_accept": True}  # fmt: skip
        (self.root / "master.d" / "checkout.conf").write_text(yaml.safe_dump(own))

    def _configure_cloud(self):
        for folder, content in (
            ("cloud.providers.d", {"openstack": PROVIDER}),
            ("cloud.profiles.d", {profile: self._profile(profile) for profile in MAP}),
        ):
            (self.root / folder).mkdir()
            (self.root / folder / "test.conf").write_text(yaml.safe_dump(content))

    def _profile(self, name):
        return {"provider": "openstack", "cluster": ONE, "image": "i", "flavor": "f", "ssh_username": "debian",
                "networks": [{"network": ONE, "security_groups": [name],
                              "allowed_address_pairs": [{"port": f"{ONE}-api"}]}]}  # fmt: skip

    def start(self):
        self.start_master()
        for name in MINIONS:
            self.start_minion(name)

    def start_master(self):
        return self._spawn("salt-master", BIN / "salt-master", "-c", self.root)

    def start_minion(self, name, *wrapper):
        """Start a minion; wrapper: what runs it, as words before the command."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "minion").write_text(yaml.safe_dump({
            "id": name, "master": "127.0.0.1", "publish_port": self.ports[0], "master_port": self.ports[1],
            "root_dir": str(folder), "conf_file": str(folder / "minion"), "pidfile": "/minion.pid",
            "acceptance_wait_time": 1, "random_reauth_delay": 1, "log_level": "warning", "ipv6": False,
            "disable_modules": ["state", "cmd", "file", "service", "pkg", "aptpkg"],
            "user": "root" if os.getuid() == 0 else os.environ["USER"],
        }))  # fmt: skip
        return self._spawn("salt-minion", *wrapper, BIN / "salt-minion", "-c", folder)

    def _spawn(self, title, *words):
        log = (self.folder / f"{title}-{len(self.processes)}.log").open("wb")
        made = subprocess.Popen(words, cwd=self.root, env=self.environment, stdout=log, stderr=log,
                                start_new_session=True)  # fmt: skip
        self.processes.append(made)
        return made

    def stop(self):
        self.kill(*self.processes)

    @staticmethod
    def kill(*processes):
        """Kill processes and all that they started."""
        import psutil

        family = [psutil.Process(process.pid) for process in processes if process.poll() is None]
        family += [child for process in family for child in process.children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=60)
        for process in processes:
            process.wait()

    def run(self, program, *words, seconds=HANGS):
        """Run one of Salt's programs in the checkout, as an operator does."""
        return subprocess.run([BIN / program, *words], cwd=self.root, env=self.environment, capture_output=True,
                              text=True, timeout=seconds, check=False)  # fmt: skip

    def begin(self, program, *words):
        """Start one of Salt's programs, to be interrupted."""
        environment = {**self.environment, "PYTHONUNBUFFERED": "1"}
        # What a shell starts in the background ignores this signal, and so would all that it starts.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen([BIN / program, *words], cwd=self.root, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed)  # fmt: skip

    @property
    def opts(self):
        return salt.config.master_config(str(self.root / "master"))


def eventually(question, seconds=HANGS):
    """Return the first true answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} seconds")


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="mk8s-"))
    made = Salt(folder)
    try:
        made.prepare()
        _keep_artifacts(made)
        # For as long as these are held, no reconciler does anything.
        with queue.lock(Store(made.state, ONE)), queue.lock(Store(made.state, OTHER)):
            made.start()
            yield made
            made.stop()
    finally:
        made.stop()
        shutil.rmtree(folder)
        paths._digests_of.cache_clear()


def _keep_artifacts(made):
    """Put into the stores what the mirror would say, so that no mirror is needed."""
    image = {"archive": "images/pause.tar", "name": "registry.k8s.io/pause", "tag": "3.10.2", "digest": "sha256:0"}
    kept = {"base": "http://127.0.0.1:1/kubernetes/1.36.3", "digest": "0", "debian_key": "0",
            "sums": {"bin/kubelet": "0", "images/pause.tar": "0"}, "versions": {"images": [image]}}  # fmt: skip
    for cluster in (ONE, OTHER):
        Store(made.state, cluster).write("artifacts-1.36.3.json", kept)
