"""What lies in ~/.managed_k8s on the first master: the applied resources, and a smoke test that needs only kubectl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from managed_k8s.config.settings import Settings
from managed_k8s.kube.addons.manifests import Object, container
from managed_k8s.kube.smoke import pods

_FILES = Path(__file__).parent / "files"
# The script fills in what is known only when it runs.
_LATER = ""


def files(settings: Settings, objects: Sequence[Object]) -> dict[str, str]:
    """Return path -> text of all files, nothing secret among them; what starts with #! is a program.

    settings: of the cluster.
    objects: the add-ons.
    """
    by_kind: dict[str, list[Object]] = {}
    for item in objects:
        if item["kind"] != "Secret":
            by_kind.setdefault(item["kind"].lower(), []).append(item)
    return {
        **{name: (_FILES / name).read_text() for name in ("README", "smoke-test")},
        **{f"resources/{kind}.yaml": yaml.safe_dump_all(items, sort_keys=False) for kind, items in by_kind.items()},
        **{f"smoke/{name}.yaml": yaml.safe_dump(item, sort_keys=False) for name, item in _tests(settings, objects)},
    }


def _tests(settings: Settings, objects: Sequence[Object]) -> list[tuple[str, Object]]:
    plugin = next(o for o in objects if o["kind"] == "DaemonSet" and o["metadata"]["name"] == pods.PLUGIN)
    image = container(plugin, "cinder-csi-plugin")["image"]
    return [
        ("server", pods.server(image)),
        ("service", pods.service()),
        ("client", pods.client(image, peer=_LATER, virtual_ip=settings.openstack.virtual_ip)),
        ("data", pods.claim("data")),
        ("writer", pods.writer(image, token=_LATER)),
        ("reader", pods.reader(image, "reader", "data")),
        ("snapshot", pods.snapshot("data", "data")),
        ("restored-claim", pods.claim("restored", snapshot="data")),
        ("restored", pods.reader(image, "restored", "restored")),
    ]
