"""Write a cluster's metrics, in a process of its own.

`python -m managed_k8s.insight CONFIGURATION CLUSTER`, which the sweep starts.
"""

from __future__ import annotations

import sys


def main(configuration: str, cluster: str) -> None:
    """Look, and write what Prometheus reads."""
    import salt.config

    from managed_k8s.operations import verbs
    from managed_k8s.operations.inspect import publish

    try:
        publish(salt.config.master_config(configuration), cluster)
    except verbs.errors() as error:
        sys.exit(f"{cluster}: metrics: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
