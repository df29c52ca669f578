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

from __future__ import annotations

import collections
import functools
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import salt.config
import salt.utils.cloud
import salt.utils.event
from salt.exceptions import SaltCloudNotFound, SaltCloudSystemExit

from managed_k8s import paths
from managed_k8s.artifacts import mirror
from managed_k8s.config.settings import InvalidError
from managed_k8s.openstack import connection, server, servers, ssh
from managed_k8s.openstack.provision import command_check
from managed_k8s.openstack.provision import server as provision

__active_provider_name__: Any
__opts__: dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

__virtualname__ = "openstack"

# What every minion is told, beside what the provider or profile says.
_MINION = {
    # A state that fails ends the run: what comes after relies on it.
    "failhard": True,
    # salt/top.sls takes the kinds of extensions that we have; asking the master for all eighteen is most of a run.
    "autoload_dynamic_modules": False,
    # A function that is not in the module of its name is in none: without this Salt loads all of its modules to see.
    "lazy_loader_strict_matching": True,
    # Nobody asks for what minions say of themselves unasked.
    "mine_enabled": False,
}
# By process: salt-cloud forks, and a TLS connection serves one process only.
_CONNECTIONS: dict[tuple[int, str], Any] = {}
_ERRORS = (connection.CloudError, ssh.DeployError, InvalidError, mirror.MirrorError)


def __virtual__() -> str | bool:
    """Load only where a provider of this driver is configured."""
    return __virtualname__ if _provider() else False


def get_configured_provider() -> Any:
    """Return the configured provider of this driver.

    It is the first that salt-cloud asks of a driver, so here it is told when it cannot do what it was called for.
    """
    provider = _provider()
    if provider and multiprocessing.parent_process() is None:
        _check((_provider_name() or __virtualname__).partition(":")[0])
    return provider


def _provider() -> Any:
    return salt.config.is_provider_configured(__opts__, _provider_name() or __virtualname__, ("cloud",))


def _provider_name() -> Any:
    try:
        return __active_provider_name__.value()
    except AttributeError:
        return __active_provider_name__


class _Refusal(SaltCloudSystemExit):  # type: ignore[misc]  # Salt has no types
    """An error that salt-cloud shows as it is: at this point it takes the arguments for a format string."""

    @property
    def args(self) -> str:
        text = str(self).replace("{", "{{").replace("}", "}}")
        return f"\n{text}" if text.startswith("- ") else text


def _check(alias: str) -> None:
    try:
        with connection.explained():
            command_check.check(__opts__, alias, get_conn)
    except _ERRORS as error:
        raise _Refusal(str(error)) from None


def get_conn() -> Any:
    """Return the connection to the provider's cloud."""
    key = (os.getpid(), _provider()["cloud"])
    if key not in _CONNECTIONS:
        _CONNECTIONS[key] = connection.connect(key[1], paths.root(__opts__))
    return _CONNECTIONS[key]


def _explained(function: Callable[P, T]) -> Callable[P, T]:
    """Say in one message, as salt-cloud's own error, what is wrong and what to do."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with connection.explained():
                return function(*args, **kwargs)
        except _ERRORS as error:
            raise SaltCloudSystemExit(str(error)) from None

    return wrapper


def _function_only(call: str | None, name: str) -> None:
    if call == "action":
        raise SaltCloudSystemExit(f"{name} must be called with -f or --function")


def _action_only(call: str | None, name: str) -> None:
    if call == "function":
        raise SaltCloudSystemExit(f"{name} must be called with -a or --action")


# Lists


@_explained
def avail_locations(call: str | None = None) -> dict[str, Any]:
    """Return the availability zones.

    CLI Example: ``salt-cloud --list-locations openstack``
    """
    _function_only(call, "avail_locations")
    return {zone.name: {"name": zone.name, "state": zone.state} for zone in get_conn().compute.availability_zones()}


@_explained
def avail_images(call: str | None = None) -> dict[str, Any]:
    """Return the images.

    CLI Example: ``salt-cloud --list-images openstack``
    """
    _function_only(call, "avail_images")
    return _by_name(get_conn().image.images(), "status", "size", "min_disk", "min_ram")


@_explained
def avail_sizes(call: str | None = None) -> dict[str, Any]:
    """Return the flavors.

    CLI Example: ``salt-cloud --list-sizes openstack``
    """
    _function_only(call, "avail_sizes")
    return _by_name(get_conn().compute.flavors(), "vcpus", "ram", "disk")


def _by_name(items: Iterable[Any], *keys: str) -> dict[str, Any]:
    """Return plain data of all: by name, and by name and id where the name alone does not tell them apart."""
    items = list(items)
    names = collections.Counter(item.name for item in items)
    return {
        item.name if names[item.name] == 1 else f"{item.name} ({item.id})": {
            "id": item.id,
            **{key: getattr(item, key) for key in keys},
        }
        for item in items
    }


@_explained
def list_networks(call: str | None = None) -> dict[str, Any]:
    """Return the networks; ``external`` ones are for floating IPs.

    CLI Example: ``salt-cloud -f list_networks openstack``
    """
    _function_only(call, "list_networks")
    found = _by_name(get_conn().network.networks(), "status", "is_router_external", "is_shared")
    return {
        name: {"id": item["id"], "status": item["status"], "external": item["is_router_external"],
               "shared": item["is_shared"]}
        for name, item in found.items()
    }  # fmt: skip


@_explained
def list_security_groups(call: str | None = None) -> dict[str, Any]:
    """Return the security groups.

    CLI Example: ``salt-cloud -f list_security_groups openstack``
    """
    _function_only(call, "list_security_groups")
    return _by_name(get_conn().network.security_groups(), "description")


@_explained
def list_server_groups(call: str | None = None) -> dict[str, Any]:
    """Return the server groups.

    CLI Example: ``salt-cloud -f list_server_groups openstack``
    """
    _function_only(call, "list_server_groups")
    found = _by_name(get_conn().compute.server_groups(), "policy", "member_ids")
    return {
        name: {"id": item["id"], "policy": item["policy"], "members": list(item["member_ids"] or [])}
        for name, item in found.items()
    }


@_explained
def list_keypairs(call: str | None = None) -> dict[str, Any]:
    """Return the account's key pairs.

    CLI Example: ``salt-cloud -f list_keypairs openstack``
    """
    _function_only(call, "list_keypairs")
    return {pair.name: {"fingerprint": pair.fingerprint, "type": pair.type} for pair in get_conn().compute.keypairs()}


@_explained
def list_volume_types(call: str | None = None) -> dict[str, Any]:
    """Return the volume types.

    CLI Example: ``salt-cloud -f list_volume_types openstack``
    """
    _function_only(call, "list_volume_types")
    return _by_name(get_conn().block_storage.types(), "description")


def list_nodes(call: str | None = None) -> dict[str, Any]:
    """Return the servers with what salt-cloud always shows.

    CLI Example: ``salt-cloud -Q``
    """
    keys = ("id", "name", "image", "size", "state", "private_ips", "public_ips")
    return {name: {key: node[key] for key in keys} for name, node in list_nodes_full(call).items()}


def list_nodes_min(call: str | None = None) -> dict[str, Any]:
    """Return the servers' names and states.

    By this list salt-cloud tells which servers of a map or profile are still to be made, so one whose making was
    interrupted is in it only when servers are removed or acted on.

    CLI Example: ``salt-cloud -f list_nodes_min openstack``
    """
    every = __opts__.get("destroy") or __opts__.get("action") or __opts__.get("function")
    return {
        # `salt-cloud -m cluster.map -a start` starts what is called stopped.
        name: {"state": "STOPPED" if node["state"] == "SHUTOFF" else node["state"]}
        for name, node in list_nodes_full(call).items()
        if every or not node["pending"]
    }


@_explained
def list_nodes_full(call: str | None = None) -> dict[str, Any]:
    """Return all that is known about the servers.

    CLI Example: ``salt-cloud -F``
    """
    _function_only(call, "list_nodes")
    return {item.name: _node(item) for item in get_conn().compute.servers(details=True)}


def list_nodes_select(call: str | None = None) -> dict[str, Any]:
    """Return the servers with the fields in ``query.selection``.

    CLI Example: ``salt-cloud -S``
    """
    found: dict[str, Any] = salt.utils.cloud.list_nodes_select(list_nodes_full(), __opts__["query.selection"], call)
    return found


@_explained
def show_instance(name: str, call: str | None = None) -> dict[str, Any]:
    """Return all that is known about one server.

    CLI Example: ``salt-cloud -a show_instance demo-master-1``
    """
    _action_only(call, "show_instance")
    return _node(_server(name))


def _server(name: str) -> Any:
    found = server.find(get_conn(), name)
    if found is None:
        raise SaltCloudNotFound(f"There is no server {name}")
    return found


def _node(item: Any) -> dict[str, Any]:
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
        "pending": server.is_pending(item),
        "volumes": [volume["id"] for volume in item.attached_volumes or []],
    }


# Making and removing


def create(vm_: dict[str, Any]) -> dict[str, Any]:
    """Make one server and install its minion; what is there already is kept, what failed is removed.

    CLI Example: ``salt-cloud -p demo-worker demo-worker-3``
    """
    try:
        return _create(vm_)
    except SaltCloudSystemExit as error:
        if __opts__.get("parallel") and not __opts__.get("map"):
            # In a process of its own, which prints a traceback of any other error.
            raise SystemExit(f"{vm_['name']}: {error}") from None
        raise


@_explained
def _create(vm_: dict[str, Any]) -> dict[str, Any]:
    name, conn = vm_["name"], get_conn()
    started = time.monotonic()

    def say(step: str) -> None:
        log.info("%s: %s (%.1f s)", name, step, time.monotonic() - started)
        _fire(name, step)

    say("creating")
    try:
        vm = _plan(vm_)
        provision.prepare(conn, __opts__, vm)
        say("requesting")
        made = provision.create(conn, __opts__, vm, say)
    except BaseException:
        # salt-cloud accepted it beforehand.
        _forget_key(name)
        raise
    say("created")
    return _node(made)


def _plan(vm_: dict[str, Any]) -> dict[str, Any]:
    """Split what salt-cloud hands over into what the server, the minion and its installation need."""
    deploy_it = salt.config.get_cloud_config_value("deploy", vm_, __opts__, default=True)
    minion = {**_MINION, **salt.utils.cloud.minion_config(__opts__, vm_)} if deploy_it else {}
    return {
        "name": vm_["name"],
        "profile": vm_["profile"],
        "raw": _raw(vm_),
        "deploy": deploy_it,
        "keys": {"private": vm_["priv_key"], "public": vm_["pub_key"]},
        "minion": salt.utils.cloud.salt_config_to_yaml(minion),
        "source": _source(vm_),
        "requirements": salt.config.get_cloud_config_value("minion_requirements", vm_, __opts__, default=None),
    }


# What salt-cloud puts beside the keys of profile and map.
_SALTS = {"profile", "name", "level", "os", "inline_script", "pub_key", "priv_key", "master_finger"}


def _raw(vm_: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of the profile and, from the map or the command line, of this server alone."""
    profile = set(__opts__["profiles"].get(vm_["profile"], {}))
    others = {*_provider(), *__opts__}
    return {key: value for key, value in vm_.items() if key not in _SALTS and (key in profile or key not in others)}


def _source(vm_: dict[str, Any]) -> dict[str, str]:
    """Return where the server gets Salt from, as variables of the installation script."""
    values = {
        key: salt.config.get_cloud_config_value(f"minion_{key}", vm_, __opts__, default=None)
        for key in ("archive", "archive_sha256", "index_url")
    }
    if values["archive"] and not values["archive_sha256"]:
        values["archive_sha256"] = mirror.sum_of(values["archive"])
    return {key.upper(): value for key, value in values.items() if value}


def _fire(name: str, step: str) -> None:
    """Fire `salt/cloud/<name>/<step>` with nothing in it but names: salt-cloud's own data has keys and passwords."""
    with salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False) as event:
        event.fire_event({"name": name, "event": step}, f"salt/cloud/{name}/{step.replace(' ', '_')}")


def _forget_key(name: str) -> None:
    salt.utils.cloud.remove_key(__opts__["pki_dir"], name)


@_explained
def destroy(name: str, call: str | None = None) -> dict[str, Any]:
    """Remove a server with its ports, floating IP and minion key.

    CLI Example: ``salt-cloud -d demo-worker-3``
    """
    if call == "function":
        raise SaltCloudSystemExit("destroy must be called with -d, --destroy, -a or --action")
    _fire(name, "destroying")
    if not server.destroy(get_conn(), name):
        raise SaltCloudNotFound(f"There is no server {name}")
    _forget_key(name)
    _fire(name, "destroyed")
    return {"Destroyed": True}


# Actions


@_explained
def _act(name: str, call: str | None, action: str, **values: str) -> dict[str, Any]:
    _action_only(call, action)
    getattr(get_conn().compute, f"{action}_server")(_server(name).id, **values)
    return {name: {action: True}}


def start(name: str, call: str | None = None) -> dict[str, Any]:
    """Start a server.

    CLI Example: ``salt-cloud -a start demo-worker-1``
    """
    return _act(name, call, "start")


def stop(name: str, call: str | None = None) -> dict[str, Any]:
    """Stop a server.

    CLI Example: ``salt-cloud -a stop demo-worker-1``
    """
    return _act(name, call, "stop")


def reboot(name: str, call: str | None = None) -> dict[str, Any]:
    """Reboot a server as its power button would.

    CLI Example: ``salt-cloud -a reboot demo-worker-1``
    """
    return _act(name, call, "reboot", reboot_type="SOFT")


@_explained
def console_log(name: str, call: str | None = None) -> dict[str, Any]:
    """Return the end of a server's console output.

    CLI Example: ``salt-cloud -a console_log demo-worker-1``
    """
    _action_only(call, "console_log")
    return {name: get_conn().compute.get_server_console_output(_server(name).id, length=100)["output"]}
