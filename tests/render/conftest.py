"""Rendering the states as a minion does, but with every undefined name an error."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jinja2
import pytest
import salt.utils.jinja
import yaml

from managed_k8s import names
from managed_k8s.minions import kubeadm_config
from managed_k8s.minions import pillar as node_pillar
from tests.support.minion_modules import load_module
from tests.support.settings import settings

ROOT = Path(__file__).parent.parent.parent
TREE = ROOT / "salt"
SUMS = dict.fromkeys(("bin/kubelet", "bin/kubeadm", "bin/containerd", "bin/runc", "cni/flannel"), "0" * 64)
IMAGE = {"archive": "images/pause.tar", "reference": "registry.k8s.io/pause:3.10.2", "digest": "sha256:1"}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One minion in one situation."""

    role: str
    masters: int = 3
    gateways: int = 2
    changes: tuple[tuple[str, str, object], ...] = ()
    ca: str | None = None
    public: str | None = "203.0.113.9"
    upcoming: str | None = None

    def __str__(self) -> str:
        words = [self.role, f"{self.masters}m{self.gateways}g", *("ca" for _ in [0] if self.ca)]
        words += [f"to-{self.upcoming}"] if self.upcoming else []
        return "-".join([*words, *(f"{key}={value}" for _, key, value in self.changes)])

    def pillar(self) -> dict[str, Any]:
        """Return the pillar that the Salt master would give."""
        changes: dict[str, dict[str, object]] = {}
        for table, key, value in self.changes:
            changes.setdefault(table, {})[key] = value
        complete = settings(**changes)
        masters = {f"demo-master-{n}": f"10.30.0.{20 + n}" for n in range(1, self.masters + 1)}
        gateways = {f"demo-gateway-{n}": f"10.30.0.{10 + n}" for n in range(1, self.gateways + 1)}
        found: dict[str, Any] = {
            "cluster": "demo",
            "role": self.role,
            "name": f"demo-{self.role}-1",
            "revision": "f" * 64,
            "settings": node_pillar.of_nodes(complete),
            "virtual_ip": "10.30.0.5",
            "gateways": gateways,
            "masters": masters,
            "ca": self.ca,
            "debian": {"url": "http://mirror.example/debian", "key_sha256": "1" * 64},
            "secrets": {},
        }
        if self.role != names.GATEWAY:
            found |= {
                "artifacts": {"base": "http://mirror.example/kubernetes/1.36.3", "sums": SUMS},
                "images": {"first": [IMAGE], "later": []},
                "sandbox_image": IMAGE["reference"],
                "upcoming": self._upcoming(),
                "kubeadm": kubeadm_config.of(names.Node("demo", self.role, 1), complete, self.public),
                "secrets": {"join": None},
            }
        if self.role == names.MASTER:
            found["secrets"]["encryption"] = "c2VjcmV0" * 4
        return {"managed_k8s": found}

    def _upcoming(self) -> dict[str, Any] | None:
        if self.upcoming is None:
            return None
        base = f"http://mirror.example/kubernetes/{self.upcoming}"
        return {
            "base": base,
            "kubeadm": {"bin/kubeadm": "2" * 64},
            "images": [IMAGE],
            "sums": {IMAGE["archive"]: "3" * 64},
        }


ROLES = [Case(role) for role in names.ROLES]
GATEWAYS = [Case(names.GATEWAY, masters=n, gateways=g) for n, g in itertools.product((0, 1, 3, 5), (1, 2, 3))]
OTHERS = [
    Case(names.GATEWAY, ca="-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"),
    Case(names.GATEWAY, changes=(("gateway", "advertisement_interval", 1),)),
    Case(names.MASTER, public=None),
    Case(names.MASTER, changes=(("kubernetes", "version", "1.37.2"), ("kubernetes", "cni", "none"))),
    Case(names.MASTER, changes=(("kubernetes", "kubelet", {"failSwapOn": False}),)),
    Case(names.MASTER, changes=(("kubernetes", "pod_security", "restricted"),)),
    Case(names.WORKER, changes=(("container_runtime", "cgroup_driver", "cgroupfs"),)),
    Case(names.WORKER, changes=(("artifacts", "debian", False),)),
    Case(names.MASTER, upcoming="1.37.2"),
    Case(names.WORKER, upcoming="1.37.2"),
]
CASES = [*ROLES, *GATEWAYS, *OTHERS]


class Tree:
    """The state tree for one minion."""

    def __init__(self, case: Case) -> None:
        self.case, self.pillar = case, case.pillar()
        self.facts = load_module("managed_k8s_facts", self.pillar)
        self.facts.interface = lambda: "ens3"
        self.facts.has_extensions = lambda: False
        self.synced: list[str] = []
        self.environment = jinja2.Environment(  # noqa: S701 (nothing here is HTML)
            undefined=jinja2.StrictUndefined,
            loader=jinja2.FileSystemLoader(TREE),
            extensions=["jinja2.ext.do", salt.utils.jinja.SerializerExtension],
        )

    def render(self, name: str, **context: object) -> str:
        """Return a file's text as the minion gets it."""
        functions = {
            f"managed_k8s_facts.{key}": value for key, value in vars(self.facts).items() if not key.startswith("_")
        } | {
            f"saltutil.sync_{kind}": lambda _saltenv, kind=kind, refresh=True: self.synced.append(kind)
            for kind in ("utils", "modules", "states", "beacons")
        }
        return self.environment.get_template(name).render(
            pillar=self.pillar,
            salt=functions,
            grains={},
            opts={"id": self.case.pillar()["managed_k8s"]["name"]},
            **context,
        )

    def states(self) -> dict[str, dict[str, Any]]:
        """Return every state that the minion's role includes: id -> declaration."""
        found: dict[str, dict[str, Any]] = {}
        for sls in self.included(self.case.role, []):
            content = yaml.safe_load(self.render(sls)) or {}
            content.pop("include", None)
            assert not found.keys() & content.keys(), "one id twice"
            found |= content
        return found

    def included(self, sls: str, seen: list[str]) -> list[str]:
        """Return the files of an SLS and of all that it includes."""
        path = sls.replace(".", "/")
        file = f"{path}/init.sls" if (TREE / path / "init.sls").is_file() else f"{path}.sls"
        if file not in seen:
            seen.append(file)
            for other in (yaml.safe_load(self.render(file)) or {}).get("include", ()):
                self.included(other, seen)
        return seen


@pytest.fixture(params=CASES, ids=str)
def tree(request):
    return Tree(request.param)


@pytest.fixture
def of():
    return lambda role, **changes: Tree(Case(role, **changes))
