"""
Watches clusters for servers that fall silent, in a process of the Salt master; see managed_k8s/healing/watch.py.

.. code-block:: yaml

    engines:
      - managed_k8s_watch: {}
"""

from managed_k8s.healing import watch


def start():
    """Watch until the Salt master stops."""
    watch.run(__opts__)
