"""Do what is due for a cluster's backups, in a process of its own.

`python -m managed_k8s.backup CONFIGURATION CLUSTER`, which the sweep starts.
"""

from __future__ import annotations

import sys
import time

import filelock


def main(configuration: str, cluster: str) -> None:
    """Run what is due, one after the other; leave it to the process that is at it, if there is one."""
    import salt.config

    from managed_k8s import verbs
    from managed_k8s.backup import service
    from managed_k8s.live import Cluster

    opts = salt.config.master_config(configuration)
    try:
        backups = Cluster(opts, cluster).backups
        with service.lock(backups.store).acquire(blocking=False):
            for work in backups.due(time.time()):
                # A drill does not wait for a backup that failed.
                try:
                    if work == "backup":
                        backups.take("schedule")
                    else:
                        backups.verify()
                except verbs.errors() as error:
                    sys.stderr.write(f"{cluster}: {work}: {error}\n")
    except filelock.Timeout:
        return
    except verbs.errors() as error:
        sys.exit(f"{cluster}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
