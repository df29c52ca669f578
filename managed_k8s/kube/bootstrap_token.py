"""What a node joins with: bootstrap tokens, minted for one join, and a master's certificates; deleted after it."""

from __future__ import annotations

import base64
import contextlib
import secrets
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import tenacity
from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client.exceptions import ApiException

_ALPHABET = string.ascii_lowercase + string.digits
_NAMESPACE = "kube-system"
_CERTIFICATES = "kubeadm-certs"
# kubeadm lets this group ask for a node's certificate, and approves that.
_GROUP = "system:bootstrappers:kubeadm:default-node-token"
_SIGNED_LIMIT = 10


def create(api: ApiClient, ttl_seconds: int) -> str:
    """Return a new token that lets nodes join for a while. It is a secret.

    Returns when the cluster's discovery information is signed with it: kubeadm would look again only after 5 s.
    Raises ApiException, and TimeoutError when it is not signed, which the controller manager does.
    """
    identity, secret = _random(6), _random(16)
    body = manifest(identity, secret, datetime.now(UTC) + timedelta(seconds=ttl_seconds))
    core = CoreV1Api(api)
    core.create_namespaced_secret(_NAMESPACE, body)
    try:
        _wait_signed(core, identity)
    except BaseException:
        delete(api, identity)
        raise
    return f"{identity}.{secret}"


def delete(api: ApiClient, token: str) -> None:
    """Delete a token; one that is not there any more is no error.

    token: the whole one or its first part.
    """
    with _unless_gone():
        CoreV1Api(api).delete_namespaced_secret(_name(token.partition(".")[0]), _NAMESPACE)


def withdraw_certificates(api: ApiClient) -> None:
    """Delete the control plane's keys that kubeadm laid out for a joining master; none there is no error.

    kubeadm leaves them for two hours, which a token of no other use measures (cmd/kubeadm/app/phases/copycerts).
    """
    core = CoreV1Api(api)
    with _unless_gone():
        secret = core.read_namespaced_secret(_CERTIFICATES, _NAMESPACE)
        for owner in secret.metadata.owner_references or []:
            with _unless_gone():
                core.delete_namespaced_secret(owner.name, _NAMESPACE)
        core.delete_namespaced_secret(_CERTIFICATES, _NAMESPACE)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status != 404:
            raise


def manifest(identity: str, secret: str, expires: datetime) -> dict[str, Any]:
    """Return the Secret of a token.

    identity, secret: its two parts, of 6 and 16 characters.
    expires: when the controller manager deletes it, in UTC.
    """
    values = {
        "token-id": identity,
        "token-secret": secret,
        "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": _GROUP,
        "description": "One join, by managed-k8s",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": _name(identity), "namespace": _NAMESPACE},
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in values.items()},
    }


def _name(identity: str) -> str:
    return f"bootstrap-token-{identity}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _wait_signed(core: CoreV1Api, identity: str) -> None:
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(_SIGNED_LIMIT), wait=tenacity.wait_fixed(0.2), reraise=True
    ):
        with attempt:
            information = core.read_namespaced_config_map("cluster-info", "kube-public")
            if f"jws-kubeconfig-{identity}" not in information.data:
                raise TimeoutError(
                    f"ConfigMap kube-public/cluster-info is not signed with a new bootstrap token after "
                    f"{_SIGNED_LIMIT} s; is a kube-controller-manager running?"
                )
