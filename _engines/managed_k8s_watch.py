"""
Watches clusters for servers that fall silent, in a process of the Salt master; see managed_k8s/observe/heartbeat.py.

.. code-block:: yaml

    engines:
      - managed_k8s_watch: {}
"""

from managed_k8s.observe import heartbeat


def start():
    """Watch until the Salt master stops."""
    heartbeat.run(__opts__)
