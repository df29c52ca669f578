"""
The infrastructure of a cluster in OpenStack as a state, for the Salt master's machine.

.. code-block:: yaml

    demo:
      openstack_infra.present
"""

from salt.exceptions import CommandExecutionError


def present(name):
    """Have the infrastructure of a cluster as its settings say.

    name: of the cluster; its settings are in pillar/clusters/<name>.sls.
    """
    return _apply(name, "openstack_infra.plan", "openstack_infra.ensure", "is as its settings say")


def absent(name):
    """Have nothing of a cluster in OpenStack, no server and no volume.

    name: of the cluster; its settings are in pillar/clusters/<name>.sls.
    """
    return _apply(name, "openstack_infra.destroy_plan", "openstack_infra.destroy", "has nothing in OpenStack")


def _apply(name, plan, function, wanted):
    ret = {"name": name, "result": True, "changes": {}, "comment": f"Cluster {name} {wanted}"}
    try:
        steps = __salt__[plan](name)
        if not steps:
            return ret
        ret["changes"] = {name: steps}
        if __opts__["test"]:
            return ret | {"result": None, "comment": f"{len(steps)} things would be done for cluster {name}"}
        __salt__[function](name)
    except CommandExecutionError as error:
        return ret | {"result": False, "changes": {}, "comment": str(error)}
    return ret
