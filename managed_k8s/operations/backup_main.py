"""Do what is due for a cluster's backups, in a process of its own.

`python -m managed_k8s.backup CONFIGURATION CLUSTER`, which the sweep starts.
"""

from __future__ import annotations

import sys
import time

from managed_k8s.backup import service
from managed_k8s.cluster import Cluster
from managed_k8s.operations import scheduled, verbs


def main(configuration: str, cluster: str) -> None:
    """Run what is due, one after the other."""
    scheduled.run(configuration, cluster, service.lock, _work)


def _work(found: Cluster) -> None:
    for work in found.backups.due(time.time()):
        # A drill does not wait for a backup that failed.
        try:
            if work == "backup":
                found.backups.take("schedule")
            else:
                found.backups.verify()
        except verbs.errors() as error:
            sys.stderr.write(f"{found.name}: {work}: {error}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
