"""The entry of background processes: `python -m managed_k8s.operations.worker KIND CONFIGURATION CLUSTER`.

Whoever starts one, by managed_k8s.state.queue.start(), does not wait for it; what goes wrong is in its
log. Each kind of work is done once at a time for a cluster: a process that finds another one at it
ends.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import filelock
import salt.config

from managed_k8s import errors
from managed_k8s.backup import service as backups
from managed_k8s.cluster import Cluster
from managed_k8s.config import cron
from managed_k8s.operations import inspect, reconcile
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.volumes import service as volumes

Opts = Mapping[str, Any]


def main(kind: str, configuration: str, cluster: str) -> None:
    """Do one kind of work for a cluster. Exits with a message when it goes wrong.

    kind: a key of KINDS. configuration: the Salt master's file.
    """
    try:
        KINDS[kind](salt.config.master_config(configuration), cluster)
    except Exception as error:
        if not errors.is_expected(error):
            raise
        sys.exit(f"{cluster}: {kind}: {errors.text(error)}")


def _reconcile(opts: Opts, cluster: str) -> None:
    try:
        reconcile.run(opts, cluster)
    except Exception as error:
        if errors.is_expected(error):
            History(Store.of(opts, cluster), opts).add("cluster", "refused", errors.text(error))
        raise


def _back_up(opts: Opts, cluster: str) -> None:
    """Do what is due: a backup, a restore drill."""
    found = Cluster(opts, cluster)
    with contextlib.suppress(filelock.Timeout), backups.lock(found.store).acquire(blocking=False):
        for work in found.backups.due(time.time()):
            # A drill does not wait for a backup that failed.
            try:
                if work == "backup":
                    found.backups.take("schedule")
                else:
                    found.backups.verify()
            except Exception as error:
                if not errors.is_expected(error):
                    raise
                sys.stderr.write(f"{cluster}: {work}: {errors.text(error)}\n")


def _back_volumes_up(opts: Opts, cluster: str) -> None:
    """Back the volumes up, unless that was done meanwhile."""
    found, now = Cluster(opts, cluster), time.time()
    with contextlib.suppress(filelock.Timeout), volumes.lock(found.store).acquire(blocking=False):
        if found.volumes.is_due(now):
            # After one that failed in part, only the rest.
            found.volumes.take("schedule", since=cron.previous(found.volumes.settings.schedule, now))


KINDS: Mapping[str, Callable[[Opts, str], None]] = {
    "reconcile": _reconcile,
    "backup": _back_up,
    "volumes": _back_volumes_up,
    "metrics": inspect.publish,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
