"""Administrators' kubeconfigs, by certificates of short life whose key never leaves the machine it was made on."""

from __future__ import annotations

import base64
from collections.abc import Callable

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from managed_k8s.errors import Error

# kubeadm binds this group to cluster-admin; unlike system:masters, the binding can be taken away.
ADMINISTRATORS = "kubeadm:cluster-admins"
USER = "managed-k8s"


class KubeconfigError(Error):
    """The certificate that was signed is not the one that was asked for."""


def mint(sign: Callable[[str], str], server: str, ca_pem: str, cluster: str = "kubernetes") -> str:
    """Return a new administrator's kubeconfig, as YAML. It is a secret.

    sign: takes a certificate signing request (PEM) and returns the certificate (PEM) that the cluster's CA signed.
    server: URL of the API.
    ca_pem: the cluster's CA.
    cluster: name of cluster and context in the file.
    Raises KubeconfigError when the certificate is for another key or not from that CA.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign(_request(key))
    _check(certificate, key, ca_pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": _base64(ca_pem.encode())}}
        ],
        "users": [
            {
                "name": USER,
                "user": {
                    "client-certificate-data": _base64(certificate.encode()),
                    "client-key-data": _base64(private),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": USER}}],
        "current-context": cluster,
    }
    return yaml.safe_dump(content, sort_keys=False)


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, ADMINISTRATORS), x509.NameAttribute(NameOID.COMMON_NAME, USER)]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _check(certificate_pem: str, key: ec.EllipticCurvePrivateKey, ca_pem: str) -> None:
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    if certificate.public_key() != key.public_key():
        raise KubeconfigError("the certificate that came back is for another key; ask for it again")
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem.encode()))
    except Exception as error:
        raise KubeconfigError(f"the certificate that came back is not signed by the cluster's CA: {error}") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
