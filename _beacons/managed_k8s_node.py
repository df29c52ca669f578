"""
Says that something on a node of a Kubernetes cluster does not work any more, or does again.

It fires when the answer of ``managed_k8s_node.ailments`` changes. Nothing acts on what it says: it makes the Salt
master look.

.. code-block:: yaml

    beacons:
      managed_k8s_node:
        - interval: 10
"""

_LAST = {"ailments": []}


def validate(config):
    """Accept a list; its only key is Salt's own ``interval``."""
    return isinstance(config, list), "the beacon managed_k8s_node takes a list with Salt's own keys"


def beacon(config):
    """Return an event when what is wrong changed; that all is right at first is no news."""
    found = __salt__["managed_k8s_node.ailments"]()
    if found == _LAST["ailments"]:
        return []
    _LAST["ailments"] = found
    return [{"ailments": found}]
