"""Powering a server off, for certain, and on again."""

from __future__ import annotations

import contextlib

import openstack.exceptions
from openstack.compute.v2.server import Server
from openstack.connection import Connection

from managed_k8s.openstack import server
from managed_k8s.openstack.connection import CloudError, explained, persistently

_OFF, _ON = "SHUTOFF", "ACTIVE"
_CYCLING = "HARD_REBOOT"
# Seconds until Nova has done it; until it has begun.
_TIMEOUT, _BEGUN = 180, 5


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


def on(conn: Connection, name: str) -> None:
    """Start a server that is off, and return when Nova says that it runs. Raises CloudError."""
    with explained():
        found = _existing(conn, name)
        if found.status == _OFF:
            persistently(lambda: conn.compute.start_server(found.id))
        _await_on(conn, found)


def cycle(conn: Connection, name: str) -> None:
    """Restart a server by pulling its plug, and return when Nova says that it runs. Raises CloudError."""
    with explained():
        found = _existing(conn, name)
        try:
            persistently(lambda: conn.compute.reboot_server(found.id, "HARD"))
        except openstack.exceptions.ConflictException as error:
            raise CloudError(f"server {name} is {found.status} and cannot be rebooted: {error}") from None
        # It is ACTIVE until Nova begins.
        with contextlib.suppress(openstack.exceptions.ResourceTimeout):
            conn.compute.wait_for_server(found, status=_CYCLING, interval=0.5, wait=_BEGUN)
        _await_on(conn, found)


def _existing(conn: Connection, name: str) -> Server:
    found = persistently(lambda: server.find(conn, name))
    if found is None:
        raise CloudError(f"server {name} is gone")
    return found


def _await_on(conn: Connection, found: Server) -> None:
    try:
        conn.compute.wait_for_server(found, status=_ON, interval=1, wait=_TIMEOUT)
    except (openstack.exceptions.ResourceTimeout, openstack.exceptions.ResourceFailure) as error:
        raise CloudError(f"server {found.name} is not known to run: {error}") from None
