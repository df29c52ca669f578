"""
Watches clusters for servers that fall silent, in a process of the Salt master; see managed_k8s/observe/heartbeat.py.

.. code-block:: yaml

    engines:
      - managed_k8s_watch: {}
"""

from __future__ import annotations

from typing import Any

from managed_k8s.observe import heartbeat

__opts__: dict[str, Any]


def start() -> None:
    """Watch until the Salt master stops."""
    heartbeat.run(__opts__)
