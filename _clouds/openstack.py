"""
OpenStack through openstacksdk, for salt-cloud.

Salt 3008 ships no OpenStack driver. This one makes a server with its ports, allowed address pairs, floating IP and
minion, or nothing; see docs/driver.md for every key of a profile.

.. code-block:: yaml

    # cloud.providers.d/openstack.conf
    openstack:
      driver: openstack
      cloud: mycloud              # in clouds.yaml
      minion:
        master: 203.0.113.10
"""

import logging
import time

import salt.config
import salt.utils.cloud
import salt.utils.event
from salt.exceptions import SaltCloudNotFound, SaltCloudSystemExit

from managed_k8s import checkout, mirror
from managed_k8s.cloud import connection, creation, deploy, server, servers
from managed_k8s.settings import InvalidError

log = logging.getLogger(__name__)

__virtualname__ = "openstack"

_CONNECTIONS = {}
_ERRORS = (connection.CloudError, deploy.DeployError, InvalidError, mirror.MirrorError)


def __virtual__():
    """Load only where a provider of this driver is configured."""
    return __virtualname__ if get_configured_provider() else False


def get_configured_provider():
    """Return the first configured provider of this driver."""
    return salt.config.is_provider_configured(__opts__, _provider_name() or __virtualname__, ("cloud",))


def _provider_name():
    try:
        return __active_provider_name__.value()
    except AttributeError:
        return __active_provider_name__


def get_conn():
    """Return the connection to the provider's cloud; one a process."""
    cloud = get_configured_provider()["cloud"]
    if cloud not in _CONNECTIONS:
        try:
            _CONNECTIONS[cloud] = connection.connect(cloud, checkout.root(__opts__))
        except connection.CloudError as error:
            raise SaltCloudSystemExit(str(error)) from None
    return _CONNECTIONS[cloud]


def _function_only(call, name):
    if call == "action":
        raise SaltCloudSystemExit(f"{name} must be called with -f or --function")


def _action_only(call, name):
    if call == "function":
        raise SaltCloudSystemExit(f"{name} must be called with -a or --action")


# Lists


def avail_locations(call=None):
    """Return the availability zones.

    CLI Example: ``salt-cloud --list-locations openstack``
    """
    _function_only(call, "avail_locations")
    return {zone.name: {"name": zone.name, "state": zone.state} for zone in get_conn().compute.availability_zones()}


def avail_images(call=None):
    """Return the images.

    CLI Example: ``salt-cloud --list-images openstack``
    """
    _function_only(call, "avail_images")
    return {
        image.name: {"id": image.id, "status": image.status, "size": image.size} for image in get_conn().image.images()
    }


def avail_sizes(call=None):
    """Return the flavors.

    CLI Example: ``salt-cloud --list-sizes openstack``
    """
    _function_only(call, "avail_sizes")
    return {
        flavor.name: {"id": flavor.id, "vcpus": flavor.vcpus, "ram": flavor.ram, "disk": flavor.disk}
        for flavor in get_conn().compute.flavors()
    }


def list_nodes(call=None):
    """Return the servers with what salt-cloud always shows.

    CLI Example: ``salt-cloud -Q``
    """
    return {
        name: {key: node[key] for key in ("id", "name", "image", "size", "state", "private_ips", "public_ips")}
        for name, node in list_nodes_full(call).items()
    }


def list_nodes_min(call=None):
    """Return the servers' names and states.

    CLI Example: ``salt-cloud -f list_nodes_min openstack``
    """
    return {name: {"state": node["state"]} for name, node in list_nodes_full(call).items()}


def list_nodes_full(call=None):
    """Return all that is known about the servers.

    CLI Example: ``salt-cloud -F``
    """
    _function_only(call, "list_nodes")
    return {item.name: _node(item) for item in get_conn().compute.servers(details=True)}


def list_nodes_select(call=None):
    """Return the servers with the fields in ``query.selection``.

    CLI Example: ``salt-cloud -S``
    """
    return salt.utils.cloud.list_nodes_select(list_nodes_full(), __opts__["query.selection"], call)


def show_instance(name, call=None):
    """Return all that is known about one server.

    CLI Example: ``salt-cloud -a show_instance demo-master-1``
    """
    _action_only(call, "show_instance")
    return _node(_server(name))


def _server(name):
    for found in get_conn().compute.servers(details=True, name=f"^{name}$"):
        return found
    raise SaltCloudNotFound(f"There is no server {name}")


def _node(item):
    """Return plain data: salt-cloud shows nothing at all when a listing holds objects."""
    found = servers.addresses(item)
    return {
        "id": item.id,
        "name": item.name,
        "image": (item.image or {}).get("id") or "",
        "size": item.flavor.get("original_name") or item.flavor.get("id"),
        "state": item.status,
        "private_ips": [found["address"]] if found["address"] else [],
        "public_ips": [found["floating_ip"]] if found["floating_ip"] else [],
        "availability_zone": item.availability_zone,
        "created_at": item.created_at,
        "metadata": dict(item.metadata or {}),
        "volumes": [volume["id"] for volume in item.attached_volumes or []],
    }


# Making and removing


def create(vm_):
    """Make one server and install its minion; what is there already is kept, what failed is removed.

    CLI Example: ``salt-cloud -p demo-worker demo-worker-3``
    """
    name, conn = vm_["name"], get_conn()
    vm = _plan(vm_)
    started = time.monotonic()

    def say(step):
        log.info("%s: %s (%.1f s)", name, step, time.monotonic() - started)
        _fire(name, step, vm_)

    _fire(name, "creating", vm_)
    try:
        creation.prepare(conn, __opts__, name, vm)
        _fire(name, "requesting", vm_)
        made = creation.create(conn, __opts__, vm, say)
    except _ERRORS as error:
        _forget_key(name)
        raise SaltCloudSystemExit(f"{name}:\n{error}") from None
    say("created")
    return _node(made)


def _plan(vm_):
    """Split what salt-cloud hands over into what the server, the minion and its installation need."""
    raw = {key: value for key, value in __opts__["profiles"].get(vm_["profile"], {}).items() if key != "profile"}
    deploy_it = salt.config.get_cloud_config_value("deploy", vm_, __opts__, default=True)
    # A state that fails ends the run: what comes after relies on it.
    minion = {"failhard": True, **salt.utils.cloud.minion_config(__opts__, vm_)} if deploy_it else {}
    return {
        "name": vm_["name"],
        "profile": vm_["profile"],
        "raw": raw,
        "deploy": deploy_it,
        "keys": {"private": vm_["priv_key"], "public": vm_["pub_key"]},
        "minion": salt.utils.cloud.salt_config_to_yaml(minion),
        "source": _source(vm_),
    }


def _source(vm_):
    archive = salt.config.get_cloud_config_value("minion_archive", vm_, __opts__, default=None)
    if not archive:
        return {}
    digest = salt.config.get_cloud_config_value("minion_archive_sha256", vm_, __opts__, default=None)
    return {"ARCHIVE": archive, "ARCHIVE_SHA256": digest or mirror.sum_of(archive)}


def _fire(name, step, vm_):
    """Fire `salt/cloud/<name>/<step>` with nothing in it but names: keys and passwords are in vm_ too."""
    with salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False) as event:
        data = {"name": name, "profile": vm_["profile"], "provider": vm_["driver"], "event": step}
        event.fire_event(data, f"salt/cloud/{name}/{step.replace(' ', '_')}")


def _forget_key(name):
    salt.utils.cloud.remove_key(__opts__["pki_dir"], name)


def destroy(name, call=None):
    """Remove a server with its ports, floating IP and minion key.

    CLI Example: ``salt-cloud -d demo-worker-3``
    """
    if call == "function":
        raise SaltCloudSystemExit("destroy must be called with -d, --destroy, -a or --action")
    _fire(name, "destroying", {"profile": "", "driver": __virtualname__})
    if not server.destroy(get_conn(), name):
        raise SaltCloudNotFound(f"There is no server {name}")
    _forget_key(name)
    _fire(name, "destroyed", {"profile": "", "driver": __virtualname__})
    return {"Destroyed": True}


# Actions


def _act(name, call, action, **values):
    _action_only(call, action)
    getattr(get_conn().compute, f"{action}_server")(_server(name).id, **values)
    return {name: {action: True}}


def start(name, call=None):
    """Start a server.

    CLI Example: ``salt-cloud -a start demo-worker-1``
    """
    return _act(name, call, "start")


def stop(name, call=None):
    """Stop a server.

    CLI Example: ``salt-cloud -a stop demo-worker-1``
    """
    return _act(name, call, "stop")


def reboot(name, call=None):
    """Reboot a server as its power button would.

    CLI Example: ``salt-cloud -a reboot demo-worker-1``
    """
    return _act(name, call, "reboot", reboot_type="SOFT")


def console_log(name, call=None):
    """Return the end of a server's console output.

    CLI Example: ``salt-cloud -a console_log demo-worker-1``
    """
    _action_only(call, "console_log")
    return {name: get_conn().compute.get_server_console_output(_server(name).id, length=100)["output"]}
