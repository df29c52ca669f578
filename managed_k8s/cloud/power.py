"""Powering a server off, for certain."""

from __future__ import annotations

import openstack.exceptions
from openstack.connection import Connection

from managed_k8s.cloud import server
from managed_k8s.cloud.connection import CloudError, explained, persistently

_OFF = "SHUTOFF"
_TIMEOUT = 180


def off(conn: Connection, name: str) -> None:
    """Power a server off and return when Nova confirms that it is; one that is gone is fine. Raises CloudError."""
    with explained():
        found = persistently(lambda: server.find(conn, name))
        if found is None or found.status == _OFF:
            return
        try:
            conn.compute.stop_server(found.id)
        except openstack.exceptions.ConflictException as error:
            raise CloudError(f"server {name} is {found.status} and cannot be powered off: {error}") from None
        try:
            conn.compute.wait_for_server(found, status=_OFF, interval=1, wait=_TIMEOUT)
        except (openstack.exceptions.ResourceTimeout, openstack.exceptions.ResourceFailure) as error:
            raise CloudError(f"server {name} is not known to be off: {error}") from None
