"""Which project a cluster lives in: what is kept about it says nothing about a project of the same name elsewhere."""

from __future__ import annotations

from openstack.connection import Connection

from managed_k8s.openstack.connection import CloudError
from managed_k8s.state.store import Store

FILE = "project.json"


def of(conn: Connection) -> dict[str, str]:
    """Return the project that a connection leads to: project_id, auth_url."""
    return {"project_id": conn.current_project_id, "auth_url": conn.config.get_auth_args()["auth_url"].rstrip("/")}


def claim(conn: Connection, store: Store) -> None:
    """Note the cluster's project, once; nothing is done for it in another one. Raises CloudError.

    A lab that was removed and made again has another project, and so has an account that was changed by mistake: the
    one's cluster is gone, the other's is not, and only the operator knows.
    """
    here, kept = of(conn), store.read(FILE)
    if kept and kept["project_id"] != here["project_id"]:
        raise CloudError(
            f"what is kept about {store.cluster} in {store.folder} is of project {kept['project_id']} at "
            f"{kept['auth_url']}; clouds.yaml leads to project {here['project_id']} at {here['auth_url']}. If that "
            "cluster still exists, let clouds.yaml lead to it again, or give the new cluster another name. If it is "
            f"gone, forget it: salt-run managed_k8s.destroy {store.cluster}"
        )
    if kept != here:
        store.write(FILE, here)


def is_elsewhere(conn: Connection, store: Store) -> dict[str, str] | None:
    """Return the project that what is kept is about, when the connection does not lead there."""
    kept = store.read(FILE)
    return dict(kept) if kept and kept["project_id"] != of(conn)["project_id"] else None
