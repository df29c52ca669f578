"""
What a cluster needs in OpenStack before its servers: network, router, security groups, server groups, virtual IP.

For the Salt master's machine, where clouds.yaml is: ``salt-call --local``. ``salt-cloud -m cluster.map`` does the same
by itself.
"""

from salt.exceptions import CommandExecutionError

try:
    from managed_k8s import paths
    from managed_k8s.config import load
    from managed_k8s.config.settings import InvalidError
    from managed_k8s.openstack import connection, infrastructure, servers

    HERE = True
except ImportError:
    HERE = False

__virtualname__ = "openstack_infra"


def __virtual__():
    """Load only where the package is: on the Salt master's machine."""
    return __virtualname__ if HERE else (False, "managed_k8s is installed on the Salt master's machine only")


def _call(function, cluster):
    """Call a function of a connection and the cluster's settings; say as one error what is wrong."""
    try:
        settings = load.load(__opts__, cluster)
        conn = connection.connect(settings["openstack"]["cloud"], paths.root(__opts__))
        with connection.explained():
            return function(conn, settings)
    except (connection.CloudError, InvalidError) as error:
        raise CommandExecutionError(str(error)) from None


def plan(cluster):
    """Return what ``ensure`` would change, as a list of sentences.

    CLI Example: ``salt-call --local openstack_infra.plan demo``
    """
    return _call(lambda conn, settings: infrastructure.plan(conn, cluster, settings), cluster)


def ensure(cluster):
    """Make what is missing, correct what differs; return the network's id and the API's addresses.

    CLI Example: ``salt-call --local openstack_infra.ensure demo``
    """
    return _call(lambda conn, settings: infrastructure.ensure(conn, cluster, settings), cluster)


def destroy_plan(cluster):
    """Return what ``destroy`` would remove, servers and volumes included.

    CLI Example: ``salt-call --local openstack_infra.destroy_plan demo``
    """
    return _call(lambda conn, settings: infrastructure.destroy_plan(conn, cluster), cluster)


def destroy(cluster):
    """Remove everything of the cluster from OpenStack, servers and volumes included, and nothing else.

    CLI Example: ``salt-call --local openstack_infra.destroy demo``
    """
    return _call(lambda conn, settings: infrastructure.destroy(conn, cluster), cluster)


def list_servers(cluster):
    """Return the cluster's servers by name: id, role, status, address, floating_ip.

    CLI Example: ``salt-call --local openstack_infra.list_servers demo``
    """
    return _call(lambda conn, settings: servers.listing(conn, cluster), cluster)
