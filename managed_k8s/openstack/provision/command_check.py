"""What a salt-cloud command is about to do, checked before it asks for confirmation or makes anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from managed_k8s.config import cluster_map, consistency, load
from managed_k8s.config.settings import InvalidError
from managed_k8s.openstack.provision import preflight, server
from managed_k8s.openstack.provision.preflight import Request
from managed_k8s.state.store import Store

# They ask no cloud.
_OFFLINE = ("list_providers", "list_profiles")
_REMOVING_OR_LOOKING = (
    "destroy", "action", "function", "selected_query_option", "list_locations", "list_images", "list_sizes",
)  # fmt: skip


def check(opts: Mapping[str, Any], alias: str, connect: Callable[[], Connection]) -> None:
    """Check the command for one provider.

    opts: salt-cloud's. alias: the provider's name. connect: returns the connection to its cloud.
    Raises settings.InvalidError with every problem; CloudError when the cloud does not let us in.
    """
    if opts.get("selected_query_option") in _OFFLINE:
        return
    problems = consistency.provider_problems(alias, opts["providers"][alias][consistency.DRIVER])
    if opts.get("hard"):
        problems.append(
            "--hard would remove every server of the project that is not in the map, other people's too: "
            "remove servers by name, salt-cloud -d"
        )
    wanted, more = _requests(opts)
    problems += more
    own = [request for request in wanted if str(request.keys["provider"]).partition(":")[0] == alias]
    if any(opts.get(key) for key in _REMOVING_OR_LOOKING):
        if problems:
            raise InvalidError(problems)
        session = connect().session
        session.auth.get_access(session)
    elif own or problems or not wanted:
        _check_creation(opts, own, connect, problems)


def _check_creation(
    opts: Mapping[str, Any], wanted: list[Request], connect: Callable[[], Connection], problems: list[str]
) -> None:
    preflight.check(opts, connect, wanted, problems)
    for cluster in {request.cluster or server.LONERS for request in wanted}:
        checked = [request.digest for request in wanted if (request.cluster or server.LONERS) == cluster]
        server.Run(server.run_id(), checked).keep(Store.of(opts, cluster))


def _requests(opts: Mapping[str, Any]) -> tuple[list[Request], list[str]]:
    """Return the servers that the command names with a profile, and what is wrong with that."""
    if opts.get("map"):
        return _of_map(opts, str(opts["map"]))
    if opts.get("profile") and opts.get("names"):
        entries = {name: cluster_map.Entry(opts["profile"], {}) for name in opts["names"]}
        return _of_entries(opts, entries, "salt-cloud")
    return [], []


def _of_map(opts: Mapping[str, Any], path: str) -> tuple[list[Request], list[str]]:
    if path.startswith("salt://"):
        return [], [f"{path}: give the map as a file"]
    try:
        written = load.server_map(opts, Path(path))
    except cluster_map.MapError as error:
        return [], [str(error)]
    found, problems = _of_entries(opts, written.servers, Path(path).name)
    return found, [fault.text for fault in written.faults] + problems


def _of_entries(
    opts: Mapping[str, Any], entries: Mapping[str, cluster_map.Entry], source: str
) -> tuple[list[Request], list[str]]:
    profiles, found, problems = opts["profiles"], [], []
    for name, entry in sorted(entries.items()):
        if entry.profile in profiles:
            keys = cluster_map.merged(profiles[entry.profile], entry.overrides)
            found.append(Request(name, entry.profile, keys))
        else:
            problems.append(f"{source}: {name}: {_why_not(opts, entry.profile)}")
    return found, problems


def _why_not(opts: Mapping[str, Any], profile: str) -> str:
    """Return why salt-cloud does not have a profile: it leaves those out whose provider it does not know."""
    tree = load.Tree.of(opts)
    keys = tree.profiles.good.get(profile)
    if keys is None:
        return f"profile {profile} is in no file of cloud.profiles.d; {tree.profiles.missing(profile)}"
    alias = str(keys.get("provider"))
    return f"profile {profile}: provider: {alias!r} is in no file of cloud.providers.d; {tree.providers.missing(alias)}"
