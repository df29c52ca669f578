"""Everything that can be known beforehand about the servers that are asked for, in one look and one message."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from openstack.connection import Connection

from managed_k8s import names, paths
from managed_k8s.config import profiles
from managed_k8s.config.settings import InvalidError, Settings
from managed_k8s.openstack import access_rules, credentials, infrastructure, quota
from managed_k8s.openstack.connection import CloudError, explained, persistently
from managed_k8s.openstack.provision import profile_objects
from managed_k8s.state import immutable_settings


@dataclasses.dataclass(frozen=True)
class Request:
    """A server that is asked for.

    keys: of its profile, with what the map or the command line says of this server alone.
    """

    name: str
    profile: str
    keys: Mapping[str, Any]

    @property
    def where(self) -> str:
        """Return the beginning of sentences about its keys."""
        return f"profile {self.profile}"

    @property
    def cluster(self) -> str | None:
        """Return the cluster that it shall be of."""
        found = self.keys.get("cluster")
        return found if isinstance(found, str) else None

    @property
    def digest(self) -> str:
        """Return what tells it, by its valid keys, from those that need another look."""
        return paths.digest([self.profile, profiles.own(self.keys)])


def check(
    opts: Mapping[str, Any],
    connect: Callable[[], Connection],
    requests: Sequence[Request],
    known: Iterable[str] = (),
) -> None:
    """Check what the operator wrote, then what the cloud has, before anything is made.

    connect: called once the former is in order. known: problems that were found already.
    Raises settings.InvalidError with every problem; CloudError.
    """
    problems = [*known]
    problems += [problem for request in requests for problem in profiles.problems(request.where, request.keys)]
    problems += [problem for request in requests for problem in _name_problems(request)]
    found, more = _settings(opts, requests)
    problems += more
    if not problems:
        conn = connect()
        with explained():
            problems = persistently(lambda: _in_the_cloud(conn, requests, found))
    if problems:
        raise InvalidError(dict.fromkeys(problems))


def _name_problems(request: Request) -> Iterable[str]:
    node = names.parse(request.name)
    if request.cluster and (node is None or node.cluster != request.cluster):
        yield (
            f"{request.name}: must be named {request.cluster}-<gateway|master|worker>-<number>: "
            f"{request.where} is of cluster {request.cluster}"
        )


def _settings(opts: Mapping[str, Any], requests: Iterable[Request]) -> tuple[dict[str, Settings], list[str]]:
    """Return the settings of each cluster that servers are asked for, and every problem in what was written."""
    found, problems = {}, []
    for cluster in sorted({request.cluster for request in requests if request.cluster}):
        try:
            found[cluster] = immutable_settings.checked(opts, cluster)
        except InvalidError as error:
            problems += error.problems
    return found, problems


def _in_the_cloud(conn: Connection, requests: Sequence[Request], found: Mapping[str, Settings]) -> list[str]:
    """Return what the cloud lacks: objects, rights, quota."""
    distinct = {request.digest: request for request in requests}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        objects = pool.map(
            lambda request: profile_objects.missing(conn, request.where, request.keys), distinct.values()
        )
        needs = {
            cluster: pool.submit(infrastructure.needs, conn, cluster, settings) for cluster, settings in found.items()
        }
        present = pool.submit(lambda: {server.name for server in conn.compute.servers(details=False)})
        rights = pool.submit(_rights, conn, found)
        problems = [problem for problems in objects for problem in problems]
    problems += rights.result()
    total: quota.Needs = collections.Counter()
    for future in needs.values():
        try:
            total += future.result()
        except CloudError as error:
            problems.append(str(error).removeprefix("- "))
    if not problems:
        missing = [request.keys for request in requests if request.name not in present.result()]
        problems = quota.shortages(conn, total + quota.of_servers(conn, missing))
    return problems


def _rights(conn: Connection, found: Mapping[str, Settings]) -> list[str]:
    """Return why a cluster's own application credential cannot be made as its settings say."""
    access = conn.session.auth.get_access(conn.session)
    own = access.application_credential if access.application_credential_id else {}
    if found and own.get("restricted"):
        return [
            f"the application credential {own.get('name')} of clouds.yaml is restricted: it may not make the one that "
            "the cluster's cloud integration logs in with. Make another: "
            "openstack application credential create --unrestricted"
        ]
    wanting = [cluster for cluster, settings in found.items() if settings.openstack.access_rules]
    if not wanting:
        return []
    present = {one.name for one in conn.identity.application_credentials(conn.current_user_id)}
    new = [cluster for cluster in wanting if names.secret(cluster) not in present]
    return access_rules.problems(conn, new[0], credentials.roles(conn)) if new else []
