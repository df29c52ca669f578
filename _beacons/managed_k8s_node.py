"""
Says that something on a node of a Kubernetes cluster does not work any more, or does again.

It fires when the answer of ``managed_k8s_facts.ailments`` changes. Nothing acts on what it says: it makes the Salt
master look.

.. code-block:: yaml

    beacons:
      managed_k8s_node:
        - interval: 10
"""

from __future__ import annotations

from typing import Any

__salt__: dict[str, Any]

_LAST: dict[str, list[str]] = {"ailments": []}


def validate(config: object) -> tuple[bool, str]:
    """Accept a list; its only key is Salt's own ``interval``."""
    return isinstance(config, list), "the beacon managed_k8s_node takes a list with Salt's own keys"


def beacon(config: list[dict[str, Any]]) -> list[dict[str, list[str]]]:
    """Return an event when what is wrong changed; that all is right at first is no news."""
    found = __salt__["managed_k8s_facts.ailments"]()
    if found == _LAST["ailments"]:
        return []
    _LAST["ailments"] = found
    return [{"ailments": found}]
