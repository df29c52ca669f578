"""When the certificates end that the Salt master can see: the API server's, the cluster's authority, its own.

What is inside of the servers is not seen from here.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import Iterable, Sequence

import yaml
from cryptography import x509

from managed_k8s.kube import access
from managed_k8s.state.store import Store
from managed_k8s.status.facts import Certificate

API, AUTHORITY, KUBECONFIG = "api", "ca", "kubeconfig"
_TIMEOUT = 3


def of_store(store: Store) -> Iterable[Certificate]:
    """Yield those that lie in the store; nothing before there is a control plane."""
    ca, kubeconfig = store.read_text(access.CA), store.read_text(access.KUBECONFIG)
    if ca is not None:
        yield _read(AUTHORITY, "the cluster's authority", ca)
    if kubeconfig is not None:
        found = _read(KUBECONFIG, "the Salt master's kubeconfig", _of_kubeconfig(kubeconfig))
        yield found if found.ends is None else _renewed(found)


def _renewed(found: Certificate) -> Certificate:
    ends = found.ends or 0
    return Certificate(found.key, found.name, ends, renewed=ends - access.MARGIN.total_seconds())


def _of_kubeconfig(text: str) -> str:
    with contextlib.suppress(yaml.YAMLError, KeyError, IndexError, TypeError, ValueError):
        user = yaml.safe_load(text)["users"][0]["user"]
        return base64.b64decode(user["client-certificate-data"]).decode()
    return ""


def of_api(addresses: Sequence[str]) -> Certificate:
    """Return that of the API server that the first address leads to which answers; gateways choose among several."""
    name, why = "an API server", "it has no address"
    for address in addresses:
        try:
            # Only its end is looked at, so nobody has to be trusted.
            text = ssl.get_server_certificate((address, access.PORT), timeout=_TIMEOUT)
        except OSError as error:
            why = f"{address}:{access.PORT}: {error}"
            continue
        return _read(API, name, text)
    return Certificate(API, name, None, problem=why)


def _read(key: str, name: str, pem: str) -> Certificate:
    try:
        ends = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
    except ValueError as error:
        return Certificate(key, name, None, problem=f"it cannot be read: {error}")
    return Certificate(key, name, ends)
