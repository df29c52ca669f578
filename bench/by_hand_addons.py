"""Prints the add-ons of the cluster made by hand, for `kubectl apply`: by_hand_addons WORK_FOLDER MIRROR VERSION."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from bench.by_hand_cloud import CLUSTER, EXTERNAL, NETWORK, VIRTUAL_IP
from managed_k8s.artifacts import mirror
from managed_k8s.config import settings
from managed_k8s.kube import addons

SETTINGS = settings.complete(
    {
        settings.KEY: {
            "openstack": {
                "cloud": "by-hand",
                "external_network": EXTERNAL,
                "network_cidr": NETWORK,
                "virtual_ip": VIRTUAL_IP,
            },
            "artifacts": {"url": "http://mirror.invalid"},
        }
    },
    "by hand",
)


def objects(work: Path, url: str, version: str) -> list[dict[str, Any]]:
    """Return them.

    work: folder with cloud.json.
    url: of the mirror.
    """
    base = f"{url}/kubernetes/{version}"
    sums = mirror.sums(mirror.fetch(f"{base}/{mirror.SUMS}").decode())
    versions = json.loads(mirror.fetch(f"{base}/versions.json"))
    credential = json.loads((work / "cloud.json").read_text())["credential"]
    access = addons.CloudAccess.of(CLUSTER, credential)
    return addons.objects(SETTINGS, versions, addons.fetch({"base": base, "sums": sums}), access)


if __name__ == "__main__":
    print(yaml.safe_dump_all(objects(Path(sys.argv[1]), *sys.argv[2:4])))
