"""A checkout and the clusters of its Salt master, driven as an operator does: by Salt's programs, run in it."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from managed_k8s.config import load
from managed_k8s.config.settings import Settings
from managed_k8s.kube import client
from managed_k8s.openstack import servers, ssh
from managed_k8s.salt_master import cli
from managed_k8s.state.store import Store
from tests.support.project import Account

BIN = Path(sys.executable).parent
# On a master, in front of what it is to do.
ETCDCTL = (
    "sudo etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt "
    "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key"
)
# What is not copied: what git does not know and everybody makes for himself.
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "checkout.conf")


@dataclasses.dataclass(frozen=True)
class Checkout:
    """A checkout.  The Salt master's state is the user's, whichever checkout it runs from."""

    root: Path

    def run(
        self, *words: str | Path, check: bool = True, timeout: float = 900, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the checkout, with the virtual environment active; print how long it took.

        check: fail unless it ends with exit code 0. timeout: seconds.
        """
        start = time.monotonic()
        done = subprocess.run(
            [str(word) for word in words],
            cwd=self.root, env=self.environment, input=stdin, capture_output=True, text=True, errors="replace",
            timeout=timeout,
        )  # fmt: skip
        line = " ".join(map(str, words))
        print(f"{line}: exit code {done.returncode} after {time.monotonic() - start:.1f} s")
        if check:
            assert done.returncode == 0, f"{line}:\n{done.stdout}{done.stderr}"
        return done

    @property
    def opts(self) -> dict[str, Any]:
        """The Salt master's options."""
        import salt.config

        return dict(salt.config.master_config(str(self.root / "master")))

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of OpenStack in it: its programs find the account in the checkout."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        return {**kept, "PATH": f"{BIN}{os.pathsep}{kept['PATH']}", "PYTHONPATH": str(self.root)}

    def data(self, verb: str, *words: str, timeout: float = 900) -> dict[str, Any]:
        """Return what `salt-run managed_k8s.VERB` says to programs, `retcode` and, when it failed, `error` included."""
        done = self.run("salt-run", "--out=json", f"managed_k8s.{verb}", *words, check=False, timeout=timeout)
        found = json.loads(done.stdout)
        assert isinstance(found, dict), done.stdout
        return found

    def salt(self, target: str, function: str, *words: str, check: bool = True) -> dict[str, Any]:
        """Return the minions' answers to a function; Salt's words for those that do not answer."""
        # A line for each minion. Not --static: that gives a minion up which is still at it after 75 seconds.
        done = self.run("salt", "--out=json", "--out-indent=-1", target, function, *words, check=check)
        return {name: answer for line in done.stdout.splitlines() for name, answer in json.loads(line).items()}

    def start_master(self, clouds: str | None = None) -> None:
        """Start the Salt master from this checkout; one of another checkout is stopped.

        clouds: clouds.yaml, unless the checkout has it.
        """
        account = ["--clouds-yaml", clouds] if clouds else []
        self.run("python", "-m", "managed_k8s.master", "start", *account)

    def stop_master(self) -> None:
        """Stop it."""
        self.run("python", "-m", "managed_k8s.master", "stop")

    def copy(self, target: Path) -> Checkout:
        """Copy it; the copy's programs use the same Salt master, which does not notice."""
        shutil.copytree(self.root, target, symlinks=True, ignore=_LEFT_OUT)
        made = Checkout(target)
        cli.configure(target, cli.state_folder(), cli.told_address(target))
        return made


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster of a checkout's map.

    account: logs in to its servers.
    """

    checkout: Checkout
    name: str
    cloud: Connection
    account: Account

    @classmethod
    def of(cls, checkout: Checkout, name: str, cloud: Connection, folder: Path) -> Cluster:
        """Return it.

        folder: for what ssh learns about its servers.
        """
        key = Store(cli.state_folder(), name).folder / ssh.SSH_KEY
        return cls(checkout, name, cloud, Account(key, folder))

    def verb(self, verb: str, *words: str, timeout: float = 900) -> dict[str, Any]:
        """Return what a verb says to programs."""
        return self.checkout.data(verb, self.name, *words, timeout=timeout)

    @property
    def servers(self) -> Mapping[str, Mapping[str, Any]]:
        """Its servers by name: id, role, status, address, floating_ip."""
        return servers.listing(self.cloud, self.name)

    def names(self, role: str) -> list[str]:
        """Return the names of its servers of a role."""
        return sorted(name for name, server in self.servers.items() if server["role"] == role)

    @property
    def virtual_ip(self) -> str:
        """The address of its API on its network, as OpenStack says."""
        return str(self._api_port.fixed_ips[0]["ip_address"])

    @property
    def public_address(self) -> str:
        """The floating IP of its API, as OpenStack says."""
        (address,) = self.cloud.network.ips(port_id=self._api_port.id)
        return str(address.floating_ip_address)

    @property
    def _api_port(self) -> Any:
        return self.cloud.network.find_port(f"{self.name}-api", ignore_missing=False)

    @property
    def store(self) -> Store:
        """What the Salt master keeps about it."""
        return Store(cli.state_folder(), self.name)

    @property
    def settings(self) -> Settings:
        """Its settings, with defaults."""
        return load.load(self.checkout.opts, self.name)

    @functools.cached_property
    def kubeconfig(self) -> Path:
        """The kubeconfig's path, as an operator is told."""
        return Path(self.checkout.run("salt-run", "managed_k8s.kubeconfig", self.name).stdout.strip())

    @functools.cached_property
    def api(self) -> Any:
        """A client of its API."""
        return client.connect(self.kubeconfig)

    def history(self) -> list[dict[str, Any]]:
        """Return all that is kept of what happened, oldest first."""
        return list(self.verb("history", "last=5000")["events"])

    def ssh(self, name: str, command: str, timeout: float = 120, stdin: str | None = None) -> str:
        """Run a shell command on a server as its default user, through the first gateway; return what it prints."""
        found = self.servers
        server = found[name]
        gateway = next(s["floating_ip"] for _, s in sorted(found.items()) if s["role"] == "gateway")
        address, through = (server["address"], gateway)
        if server["role"] == "gateway":
            address, through = (server["floating_ip"], None)
        return self.account.ssh(address, command, known_as=server["id"], through=through, timeout=timeout, stdin=stdin)

    def answers(self, path: str) -> Any:
        """Return what its API says to somebody without a name: requests' response."""
        import requests

        return requests.get(
            f"https://{self.public_address}:6443{path}", verify=str(self.store.folder / "ca.crt"), timeout=10
        )


def objects(cloud: Connection) -> dict[str, str]:
    """Return everything in the project, id -> kind and name."""
    compute, network, storage, identity = cloud.compute, cloud.network, cloud.block_storage, cloud.identity
    mine = {"project_id": cloud.current_project_id}
    kinds = {
        "server": compute.servers(),
        "server group": compute.server_groups(),
        "key pair": compute.keypairs(),
        "port": network.ports(**mine),
        "network": network.networks(**mine),
        "subnet": network.subnets(**mine),
        "router": network.routers(**mine),
        "security group": network.security_groups(**mine),
        "floating IP": network.ips(**mine),
        "volume": storage.volumes(),
        "snapshot": storage.snapshots(),
        "backup": storage.backups(),
        "application credential": identity.application_credentials(cloud.current_user_id),
    }
    return {str(item.id): f"{kind} {_name(item)}" for kind, items in kinds.items() for item in items}


def _name(item: Any) -> str:
    return str(getattr(item, "floating_ip_address", None) or item.name or item.id)


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what is there now and was not, and the other way round."""
    return sorted(
        [f"new: {after[key]}" for key in after.keys() - before.keys()]
        + [f"gone: {before[key]}" for key in before.keys() - after.keys()]
    )
