"""Back a cluster's volumes up because it is time to, in a process of its own.

`python -m managed_k8s.volumes CONFIGURATION CLUSTER`, which the sweep starts.
"""

from __future__ import annotations

import sys
import time

import filelock


def main(configuration: str, cluster: str) -> None:
    """Do it; leave it to the process that is at it, if there is one."""
    import salt.config

    from managed_k8s import verbs
    from managed_k8s.backup import schedule
    from managed_k8s.live import Cluster
    from managed_k8s.volumes import service

    opts = salt.config.master_config(configuration)
    try:
        volumes = Cluster(opts, cluster).volumes
        with service.lock(volumes.store).acquire(blocking=False):
            now = time.time()
            if volumes.is_due(now):
                # After one that failed in part, only the rest.
                volumes.take("schedule", since=schedule.previous(volumes.settings["schedule"], now))
    except filelock.Timeout:
        return
    except verbs.errors() as error:
        sys.exit(f"{cluster}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
