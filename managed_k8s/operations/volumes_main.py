"""Back a cluster's volumes up because it is time to, in a process of its own.

`python -m managed_k8s.volumes CONFIGURATION CLUSTER`, which the sweep starts.
"""

from __future__ import annotations

import sys
import time

from managed_k8s.cluster import Cluster
from managed_k8s.config import cron
from managed_k8s.operations import scheduled
from managed_k8s.volumes import service


def main(configuration: str, cluster: str) -> None:
    """Do it, unless that was done meanwhile."""
    scheduled.run(configuration, cluster, service.lock, _work)


def _work(found: Cluster) -> None:
    volumes, now = found.volumes, time.time()
    if volumes.is_due(now):
        # After one that failed in part, only the rest.
        volumes.take("schedule", since=cron.previous(volumes.settings["schedule"], now))


if __name__ == "__main__":
    main(*sys.argv[1:])
