"""Keys of a cluster: the SSH key pair of its servers, and the application credential of its cloud integration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import filelock
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from openstack.connection import Connection

from managed_k8s import names
from managed_k8s.config.sections import OpenStack
from managed_k8s.openstack import access_rules
from managed_k8s.openstack.connection import CloudError
from managed_k8s.openstack.ssh import SSH_KEY
from managed_k8s.state.store import Store

FILE = "application_credential.json"
MEMBER = "member"


def ensure_ssh_key(conn: Connection, store: Store) -> str:
    """Make the cluster's SSH key on the Salt master, once, and know it to Nova; return the key pair's name.

    Raises CloudError when Nova has a key pair of that name with another key.
    """
    with filelock.FileLock(store.path(".ssh_key.lock")):
        private = store.read_text(SSH_KEY)
        if private is None:
            private = _new_key()
            store.write_text(SSH_KEY, private)
        public, name = _public(private), names.secret(store.cluster)
        found = conn.compute.find_keypair(name)
        if found is None:
            conn.compute.create_keypair(name=name, public_key=public)
        elif found.public_key.split()[:2] != public.split():
            raise CloudError(
                f"key pair {name} in OpenStack is not the one in {store.folder / SSH_KEY}: remove it "
                f"(openstack keypair delete {name}) if no server needs it, or bring that file back"
            )
    return name


def _new_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


def _public(private: str) -> str:
    key = serialization.load_ssh_private_key(private.encode(), None).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def ensure_application_credential(conn: Connection, store: Store, openstack: OpenStack) -> dict[str, Any]:
    """Return the credential that the cloud controller manager and Cinder CSI log in with; made once.

    openstack: that part of the settings. Its secret is shown by Keystone only when it is made, so it is kept in the
    store; one without a known secret, or with other access rules than the settings say, is replaced. It cannot make
    further credentials. Raises CloudError when the cloud cannot do access rules; the one that there is stays then.
    """
    # Add-ons and the cluster's resources need it at the same time.
    with filelock.FileLock(store.path(".application_credential.lock")):
        return _application_credential(conn, store, openstack)


def _application_credential(conn: Connection, store: Store, openstack: OpenStack) -> dict[str, Any]:
    name = names.secret(store.cluster)
    kept = store.read(FILE)
    user = conn.current_user_id
    rules = access_rules.of(conn) if openstack.access_rules else None
    found = next((c for c in conn.identity.application_credentials(user) if c.name == name), None)
    if found and kept and kept["id"] == found.id and kept.get("access_rules") == rules:
        return dict(kept)
    if rules and (problems := access_rules.problems(conn, store.cluster, roles(conn))):
        raise CloudError("\n".join(problems))
    if found:
        conn.identity.delete_application_credential(user, found)
    made = conn.identity.create_application_credential(
        user,
        name=name,
        description=f"Cloud integration of Kubernetes cluster {store.cluster}",
        unrestricted=False,
        **({"access_rules": rules} if rules else {}),
        **roles(conn),
    )
    credential = {
        "id": made.id,
        "secret": made.secret,
        "auth_url": conn.config.get_auth_args()["auth_url"],
        "region": conn.config.get_region_name() or "",
        "ca": _ca(conn),
        "access_rules": rules,
    }
    store.write(FILE, credential)
    return credential


def suits(credential: Mapping[str, Any] | None, openstack: OpenStack) -> bool:
    """Tell whether what is kept is a credential as the settings want it."""
    return credential is not None and bool(credential.get("access_rules")) == openstack.access_rules


def roles(conn: Connection) -> dict[str, list[dict[str, str]]]:
    """Return the role that is enough, so that an administrator's account does not give its power away."""
    held = conn.session.auth.get_access(conn.session).role_names
    # Clouds without the role have another one for the same purpose, which no client can know: all that are held, then.
    return {"roles": [{"name": MEMBER}]} if MEMBER in held else {}


def _ca(conn: Connection) -> str:
    verify, _ = conn.config.get_requests_verify_args()
    if isinstance(verify, str):
        with open(verify) as file:  # noqa: PTH123 (a bundle's path as the user wrote it)
            return file.read()
    return ""
