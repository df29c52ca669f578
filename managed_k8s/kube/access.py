"""The Salt master's own access to a cluster's API: kubeconfig and CA in the store."""

from __future__ import annotations

import base64
import datetime
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from cryptography import x509

from managed_k8s.config.settings import Settings
from managed_k8s.state.store import Store

KUBECONFIG, CA = "kubeconfig", "ca.crt"
PORT = 6443
_TIMEOUT = 3
_ENOUGH = 4096
# A certificate is renewed this long before its end.
MARGIN = datetime.timedelta(days=30)


def addresses(settings: Settings, public: str | None) -> list[str]:
    """Return where the API may be reached from here, the likelier first."""
    return [address for address in (public, settings.openstack.virtual_ip) if address]


def answers(address: str) -> bool:
    """Tell whether an API server answers there; a proxy in between that answers for it does not count."""
    # Only whether there is one is asked; nothing is sent that anybody could misuse.
    unverified = ssl._create_unverified_context()  # noqa: S323
    try:
        with urllib.request.urlopen(f"https://{address}:{PORT}/livez", timeout=_TIMEOUT, context=unverified) as answer:
            text = answer.read(_ENOUGH)
    except urllib.error.HTTPError as error:
        text = error.read(_ENOUGH)
    except OSError:
        return False
    return is_of_api(text)


def is_of_api(text: bytes) -> bool:
    """Tell whether this is an API server's answer to /livez: ok, what is wrong with it, or that we have no name."""
    return text == b"ok" or b'"kind":"Status"' in text.replace(b" ", b"") or text.startswith(b"[+]")


def server(candidates: list[str]) -> str:
    """Return the URL of the API: the first address that takes a connection, else the last."""
    for address in candidates[:-1]:
        try:
            socket.create_connection((address, PORT), _TIMEOUT).close()
        except OSError:
            continue
        return f"https://{address}:{PORT}"
    return f"https://{candidates[-1]}:{PORT}"


def is_good(store: Store) -> bool:
    """Tell whether kubeconfig and CA are there, and good for some weeks."""
    text = store.read_text(KUBECONFIG)
    if text is None or store.read_text(CA) is None:
        return False
    try:
        user = yaml.safe_load(text)["users"][0]["user"]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    except (ValueError, KeyError, IndexError, TypeError, yaml.YAMLError):
        return False
    return certificate.not_valid_after_utc - MARGIN > datetime.datetime.now(datetime.UTC)


def keep(store: Store, kubeconfig: str, ca: str) -> None:
    """Put both into the store, readable for its owner only."""
    store.write_text(KUBECONFIG, kubeconfig)
    store.write_text(CA, ca)


def kubeconfig(store: Store) -> Path:
    """Return the path of the kubeconfig."""
    return store.path(KUBECONFIG)
