"""
The certificates and keys of a node: when they end, what is wrong with them, how new ones are made.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import importlib
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import managed_k8s_common as common
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID
from salt.exceptions import CommandExecutionError

importlib.reload(common)
__pillar__: dict[str, Any]
__salt__: dict[str, Any]

# Certificate -> who signs it.
_SIGNED = {
    "apiserver": "ca", "apiserver-kubelet-client": "ca", "apiserver-etcd-client": "etcd/ca",
    "front-proxy-client": "front-proxy-ca", "etcd/server": "etcd/ca", "etcd/peer": "etcd/ca",
    "etcd/healthcheck-client": "etcd/ca",
}  # fmt: skip
# A renewal was begun here and did not end.
_RENEWING = common.MANAGED / "renewing"
_GATEWAYS_CA = Path("/etc/haproxy/kubernetes-ca.crt")
_EMBEDDED = re.compile(r"client-certificate-data: (\S+)")


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def ca_certificate() -> str:
    """Return the certificate of the cluster's certificate authority.

    CLI Example: ``salt demo-master-1 managed_k8s_pki.ca_certificate``
    """
    return (common.PKI / "ca.crt").read_text()


def sign_client(csr: str, days: int = 365) -> str:
    """Return a client certificate for a signing request, from the cluster's certificate authority.

    The private key stays with whoever made the request: this is how the Salt master gets its access.

    CLI Example: ``salt demo-master-1 managed_k8s_pki.sign_client "$(cat admin.csr)"``
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        valid = request.is_signature_valid
    except ValueError as error:
        raise CommandExecutionError(f"the request cannot be signed: {error}") from None
    if not valid:
        raise CommandExecutionError("the request cannot be signed: it is not signed with its own key")
    authority = x509.load_pem_x509_certificate((common.PKI / "ca.crt").read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(authority.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=int(days)))
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(_key("ca"), hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


# When they end


def expiry() -> dict[str, Any]:
    """Return when the first certificate of each kind ends, in seconds since 1970, None where there is none.

    control_plane: kubeadm's. kubelet: the kubelet's. authority: the certificate authorities. renewing: whether a
    renewal was begun and did not end.

    CLI Example: ``salt 'demo-*' managed_k8s_pki.expiry``
    """
    files = sorted([*common.PKI.glob("*.crt"), *common.PKI.glob("etcd/*.crt")])
    # Gateways have the cluster's CA there, workers in kubeadm's folder, and neither a certificate of kubeadm's.
    authorities = [file for file in [*files, _GATEWAYS_CA] if file.name.endswith("ca.crt") and file.is_file()]
    ends = [_end(file.read_text()) for file in files if not file.name.endswith("ca.crt")]
    ends += [_embedded(common.KUBERNETES / name) for name in ("super-admin.conf", *common.KUBECONFIGS)]
    own = [common.KUBELET / "pki" / f"kubelet-{what}-current.pem" for what in ("client", "server")]
    return {
        "control_plane": _first(ends),
        "kubelet": _first(_end(file.read_text()) for file in own if file.is_file()),
        "authority": _first(_end(file.read_text()) for file in authorities),
        "renewing": _RENEWING.is_file(),
    }


def _first(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _end(text: str) -> float | None:
    """Return when the certificate in a text ends; the kubelet's files hold the key too."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    with contextlib.suppress(ValueError, IndexError):
        pem = begin + text.split(begin, 1)[1].split(end, 1)[0] + end
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
    return None


def _embedded(path: Path) -> float | None:
    """Return when the certificate inside of a kubeconfig ends."""
    found = _EMBEDDED.search(path.read_text()) if path.is_file() else None
    return _end(base64.b64decode(found[1]).decode()) if found else None


# What is wrong with them


def faults() -> list[str]:
    """Return what is wrong with the control plane's certificates, keys and kubeconfigs, a sentence each.

    CLI Example: ``salt 'demo-master-*' managed_k8s_pki.faults``
    """
    found = [f"{name} is missing or empty" for name in common.AUTHORITIES if not _has_content(common.PKI / name)]
    found += [f"{name} is missing or empty" for name in common.KUBECONFIGS
              if not _has_content(common.KUBERNETES / name)]  # fmt: skip
    for name in ("ca", "etcd/ca", "front-proxy-ca"):
        found += _fault(name, name)
    for name, signer in _SIGNED.items():
        found += _fault(name, signer)
    with contextlib.suppress(OSError):
        try:
            public = serialization.load_pem_public_key((common.PKI / "sa.pub").read_bytes())
            if _public(_key("sa").public_key()) != _public(public):
                found.append("sa.pub is not that of sa.key")
        except ValueError:
            found.append("sa.key or sa.pub cannot be read")
    return found


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _fault(name: str, signer: str) -> list[str]:
    try:
        certificate = x509.load_pem_x509_certificate((common.PKI / f"{name}.crt").read_bytes())
        authority = x509.load_pem_x509_certificate((common.PKI / f"{signer}.crt").read_bytes())
        certificate.verify_directly_issued_by(authority)
        if _public(_key(name).public_key()) != _public(certificate.public_key()):
            return [f"{name}.crt is not for {name}.key"]
    except FileNotFoundError as error:
        return [f"{Path(error.filename).relative_to(common.PKI)} is missing"]
    except Exception:
        # Neither what is in a key nor a library's words for it belong into a result.
        return [f"{name}.crt or {name}.key is damaged, or not signed by {signer}.crt"]
    if certificate.not_valid_after_utc.timestamp() < time.time():
        return [f"{name}.crt ended {certificate.not_valid_after_utc:%Y-%m-%d}"]
    return []


def _key(name: str) -> Any:
    return serialization.load_pem_private_key((common.PKI / f"{name}.key").read_bytes(), None)


def _public(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# New ones


def make_anew() -> bool:
    """Make all certificates and kubeconfigs of this control plane by kubeadm, from the authorities that are here.

    CLI Example: ``salt demo-master-1 managed_k8s_pki.make_anew``
    """
    for name in _SIGNED:
        for ending in ("crt", "key"):
            (common.PKI / f"{name}.{ending}").unlink(missing_ok=True)
    common.kubeadm_phase("certs all")
    for name in (*common.KUBECONFIGS, "kubelet.conf"):
        path = common.KUBERNETES / name
        if name != "kubelet.conf" or not _has_content(path):
            # A kubelet's own certificate is renewed by itself, and not among these.
            path.unlink(missing_ok=True)
            common.kubeadm_phase(f"kubeconfig {name.removesuffix('.conf')}")
    return True


def renew() -> dict[str, list[str]]:
    """Renew all certificates of this master that kubeadm made, and restart what uses them, one pod after the other.

    Works without an API: the authority's key is here. Begun again, it goes on.

    CLI Example: ``salt demo-master-1 managed_k8s_pki.renew``
    """
    _RENEWING.write_text(datetime.datetime.now(datetime.UTC).isoformat())
    common.kubeadm("certs", "renew", "all", limit=300)
    _renew_kubelet()
    slow = __salt__["managed_k8s_control_plane.restart"]()
    _RENEWING.unlink()
    # Its etcd may still wait for other masters, whose certificates have ended too.
    return {"not_well_yet": slow}


def _renew_kubelet() -> None:
    """Sign a certificate for this master's kubelet when its own has ended: it cannot ask for one then, nor start."""
    current = common.KUBELET / "pki" / "kubelet-client-current.pem"
    end = _end(current.read_text()) if current.is_file() else None
    if end is None or end > time.time():
        return
    kubeconfig = yaml.safe_load(
        common.kubeadm(
            "kubeconfig", "user", f"--config={common.MANAGED}/kubeadm.yaml", "--org=system:nodes",
            f"--client-name=system:node:{__pillar__['managed_k8s']['name']}", limit=60,
        )
    )  # fmt: skip
    user = kubeconfig["users"][0]["user"]
    pair = b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key"))
    # As the kubelet keeps them, and replaces them from now on: a file of its own, and a link to it.
    file = current.with_name(f"kubelet-client-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H-%M-%S}.pem")
    file.touch(mode=0o600)
    file.write_bytes(pair)
    link = current.with_name(".current")
    link.unlink(missing_ok=True)
    link.symlink_to(file)
    link.rename(current)
    common.systemctl("restart", "kubelet")
