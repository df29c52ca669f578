"""
What each minion is told, by its id, which the Salt master authenticated.

.. code-block:: yaml

    ext_pillar:
      - managed_k8s: {}
"""

from __future__ import annotations

from typing import Any

from managed_k8s.minions import pillar as node_pillar

__opts__: dict[str, Any]


def ext_pillar(minion_id: str, pillar: dict[str, Any]) -> dict[str, Any]:
    """Return the pillar of a cluster's node: ``managed_k8s``, and its ``beacons``; nothing for any other minion.

    CLI Example: ``salt demo-worker-1 pillar.keys managed_k8s``
    """
    found = node_pillar.of(__opts__, minion_id)
    return {"managed_k8s": found, "beacons": node_pillar.BEACONS} if found else {}
