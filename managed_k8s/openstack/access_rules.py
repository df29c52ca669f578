"""What a cluster's application credential may ask of OpenStack, and whether the cloud holds it to that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keystoneauth1.identity.v3
import keystoneauth1.session
import os_service_types
from openstack.connection import Connection

from managed_k8s import names

# What version 1.36 of the cloud controller manager and of Cinder CSI request, read from their sources: "METHOD path".
# ** stands for any beginning, as clouds put their services below other paths; * for one part of a path.
_VERSIONS = ("GET /", "GET /*/", "GET /**/v2.0/", "GET /**/v2.1/", "GET /**/v3/")
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "compute": (
        *_VERSIONS,
        "GET /**/servers/detail",
        "GET /**/servers/*",
        "GET /**/flavors/*",
        "POST /**/servers/*/os-volume_attachments",
        "DELETE /**/servers/*/os-volume_attachments/*",
    ),
    "network": (*_VERSIONS, "GET /**/extensions", "GET /**/ports", "GET /**/ports/*", "GET /**/networks/*"),
    "block-storage": (
        *_VERSIONS,
        "GET /**/volumes/detail",
        "GET /**/volumes/*",
        "POST /**/volumes",
        "POST /**/volumes/*/action",
        "DELETE /**/volumes/*",
        *(
            request
            for kind in ("snapshots", "backups")
            for request in (f"GET /**/{kind}", f"GET /**/{kind}/*", f"POST /**/{kind}", f"DELETE /**/{kind}/*")
        ),
    ),
}
# Something of each that may be asked for, and changes nothing.
_TRIALS = {
    "compute": "/servers/detail?limit=1",
    "network": "/v2.0/ports?limit=1",
    "block-storage": "/snapshots?limit=1",
}

Rules = list[dict[str, str]]


def of(conn: Connection) -> Rules:
    """Return the rules as Keystone takes them: service, method and path.

    A service knows itself by the type that it has in the catalogue, which for block storage differs among clouds.
    """
    rules = []
    for service, allowed in ALLOWED.items():
        for name in _types(conn, service):
            for method, path in (request.split() for request in allowed):
                rules.append({"service": name, "method": method, "path": path})
    return rules


def _types(conn: Connection, service: str) -> list[str]:
    """Return the types by which the catalogue knows a service; its official one when it has none of them."""
    catalogue = conn.session.auth.get_access(conn.session).service_catalog.catalog
    present = {entry["type"] for entry in catalogue}
    every: list[str] = os_service_types.ServiceTypes().get_all_types(service)
    return [name for name in every if name in present] or [service]


def problems(conn: Connection, cluster: str, roles: Mapping[str, Any]) -> list[str]:
    """Return what stands in the way of access rules, tried with a credential that is removed again.

    Each service enforces them by itself, and refuses every request when it was not told how, with a 401: see
    validate_allowed_request in keystonemiddleware's auth_token. roles: the argument `roles` for Keystone, or none.
    """
    with _trial(conn, cluster, roles) as session:
        refusing = [service for service in ALLOWED if _status(conn, session, service) == 401]
    if not refusing:
        return []
    return [
        f"openstack.access_rules: {', '.join(refusing)} of this cloud refuses application credentials with access "
        "rules. Have its operator set service_type in [keystone_authtoken] of that service to its type in the "
        "catalogue, or set openstack.access_rules to false: Kubernetes' credential may then do all that the role "
        "member may"
    ]


@contextlib.contextmanager
def _trial(conn: Connection, cluster: str, roles: Mapping[str, Any]) -> Iterator[keystoneauth1.session.Session]:
    user, name = conn.current_user_id, names.trial(cluster)
    for left in [one for one in conn.identity.application_credentials(user) if one.name == name]:
        conn.identity.delete_application_credential(user, left)
    made = conn.identity.create_application_credential(
        user, name=name, description="Removed at once", unrestricted=False, access_rules=of(conn), **roles
    )
    try:
        login = keystoneauth1.identity.v3.ApplicationCredential(
            conn.config.get_auth_args()["auth_url"],
            application_credential_id=made.id,
            application_credential_secret=made.secret,
        )
        verify, _ = conn.config.get_requests_verify_args()
        yield keystoneauth1.session.Session(login, verify=verify, timeout=30)
    finally:
        conn.identity.delete_application_credential(user, made)


def _status(conn: Connection, session: keystoneauth1.session.Session, service: str) -> int:
    where = {
        "service_type": service,
        "interface": conn.config.get_interface(service),
        "region_name": conn.config.get_region_name(service),
    }
    return int(session.get(_TRIALS[service], endpoint_filter=where, raise_exc=False).status_code)
