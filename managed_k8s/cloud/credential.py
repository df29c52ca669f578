"""Keys of a cluster: the SSH key pair of its servers, and the application credential of its cloud integration."""

from __future__ import annotations

import filelock
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from openstack.connection import Connection

from managed_k8s.cloud import ownership
from managed_k8s.cloud.connection import CloudError
from managed_k8s.store import Store

SSH_KEY = "ssh_key"
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
        public, name = _public(private), ownership.secret(store.cluster)
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


def ensure_application_credential(conn: Connection, store: Store) -> dict[str, str]:
    """Return the credential that the cloud controller manager and Cinder CSI log in with; made once.

    Its secret is shown by Keystone only when it is made, so it is kept in the store; one without a known secret is
    replaced. It cannot make further credentials.
    """
    name = ownership.secret(store.cluster)
    kept = store.read("application_credential.json")
    user = conn.current_user_id
    found = next((c for c in conn.identity.application_credentials(user) if c.name == name), None)
    if found and kept and kept["id"] == found.id:
        return dict(kept)
    if found:
        conn.identity.delete_application_credential(user, found)
    made = conn.identity.create_application_credential(
        user,
        name=name,
        description=f"Cloud integration of Kubernetes cluster {store.cluster}",
        unrestricted=False,
        # No access rules: services that are not set up for them refuse every request, and none says so beforehand.
        **_roles(conn),
    )
    credential = {
        "id": made.id,
        "secret": made.secret,
        "auth_url": conn.config.get_auth_args()["auth_url"],
        "region": conn.config.get_region_name() or "",
        "ca": _ca(conn),
    }
    store.write("application_credential.json", credential)
    return credential


def _roles(conn: Connection) -> dict[str, list[dict[str, str]]]:
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
