"""Kubeconfigs, bootstrap tokens and serving certificates."""

from __future__ import annotations

import base64
import ipaddress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube import bootstrap_token, csr, kubeconfig

NODE, ADDRESS = "demo-worker-1", "10.30.0.31"


class Authority:
    """A CA that lives as long as its test."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        self.certificate = self._sign(name, self.key.public_key(), name)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, request: str) -> str:
        asked = x509.load_pem_x509_csr(request.encode())
        made = self._sign(asked.subject, asked.public_key(), self.certificate.subject)
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(self, subject: x509.Name, key: Any, issuer: x509.Name) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )


def decoded(text: str) -> bytes:
    return base64.b64decode(text)


def test_kubeconfig_holds_a_key_and_its_certificate() -> None:
    authority = Authority()
    content = yaml.safe_load(kubeconfig.mint(authority.sign, "https://10.88.0.17:6443", authority.pem, "demo"))
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    assert cluster["server"] == "https://10.88.0.17:6443"
    assert decoded(cluster["certificate-authority-data"]).decode() == authority.pem
    certificate = x509.load_pem_x509_certificate(decoded(user["client-certificate-data"]))
    certificate.verify_directly_issued_by(authority.certificate)
    key = serialization.load_pem_private_key(decoded(user["client-key-data"]), None)
    assert key.public_key() == certificate.public_key()
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [o.value for o in organizations] == ["kubeadm:cluster-admins"]
    assert content["current-context"] == content["contexts"][0]["name"] == "demo"


def test_every_kubeconfig_has_a_key_of_its_own() -> None:
    authority = Authority()
    first, second = (kubeconfig.mint(authority.sign, "https://x", authority.pem) for _ in range(2))
    assert first != second


def test_a_certificate_of_another_authority_is_refused() -> None:
    with pytest.raises(kubeconfig.KubeconfigError, match="not signed by the cluster's CA"):
        kubeconfig.mint(Authority().sign, "https://x", Authority().pem)


def test_a_certificate_for_another_key_is_refused() -> None:
    authority = Authority()
    other = authority.certificate.public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(kubeconfig.KubeconfigError, match="another key"):
        kubeconfig.mint(lambda request: other, "https://x", authority.pem)


class Secrets:
    """The secrets of kube-system, by name, with the names of their owners."""

    def __init__(self, **owners: list[str]) -> None:
        self.owners = {name.replace("_", "-"): owned_by for name, owned_by in owners.items()}

    def read_namespaced_secret(self, name: str, namespace: str) -> Any:
        self._check(name, namespace)
        references = [SimpleNamespace(name=owner) for owner in self.owners[name]]
        return SimpleNamespace(metadata=SimpleNamespace(owner_references=references or None))

    def delete_namespaced_secret(self, name: str, namespace: str) -> None:
        self._check(name, namespace)
        del self.owners[name]

    def _check(self, name: str, namespace: str) -> None:
        assert namespace == "kube-system"
        if name not in self.owners:
            raise ApiException(status=404)


def test_certificates_for_a_join_are_withdrawn_with_the_token_that_times_them(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Secrets(kubeadm_certs=["bootstrap-token-abcdef"], bootstrap_token_abcdef=[], cloud_config=[])
    monkeypatch.setattr(bootstrap_token, "CoreV1Api", lambda api: there)
    bootstrap_token.withdraw_certificates(None)
    assert set(there.owners) == {"cloud-config"}
    bootstrap_token.withdraw_certificates(None)
    there.owners["kubeadm-certs"] = ["bootstrap-token-gone"]
    bootstrap_token.withdraw_certificates(None)
    assert set(there.owners) == {"cloud-config"}


def test_token_secret_is_what_kubernetes_expects() -> None:
    expires = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    secret = bootstrap_token.manifest("abcdef", "0123456789abcdef", expires)
    assert secret["type"] == "bootstrap.kubernetes.io/token"
    assert secret["metadata"] == {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    data = {name: decoded(value).decode() for name, value in secret["data"].items()}
    assert data["token-id"] == "abcdef"
    assert data["token-secret"] == "0123456789abcdef"
    assert data["expiration"] == "2026-11-23T12:00:00Z"
    assert data["usage-bootstrap-authentication"] == data["usage-bootstrap-signing"] == "true"
    assert data["auth-extra-groups"] == "system:bootstrappers:kubeadm:default-node-token"


def request(
    user: str = f"system:node:{NODE}",
    *,
    common_name: str | None = None,
    organization: str = "system:nodes",
    names: tuple[str, ...] = (NODE,),
    addresses: tuple[str, ...] = (ADDRESS,),
    groups: tuple[str, ...] = ("system:nodes", "system:authenticated"),
    usages: tuple[str, ...] = ("digital signature", "server auth"),
    more: tuple[x509.GeneralName, ...] = (),
) -> Any:
    """Return the specification of a CertificateSigningRequest."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name or user),
        ]
    )
    alternatives = [
        *(x509.DNSName(name) for name in names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
        *more,
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return SimpleNamespace(
        username=user, groups=list(groups), usages=list(usages), request=base64.b64encode(pem).decode()
    )


def review(asked: Any) -> str:
    return "; ".join(csr.review(asked, {NODE: ADDRESS, "demo-worker-2": "10.30.0.32"}))


def test_a_node_gets_a_certificate_for_its_name_and_address() -> None:
    assert review(request()) == ""
    assert review(request(usages=("digital signature", "key encipherment", "server auth"))) == ""
    assert review(request(names=())) == ""


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (request("mallory"), "only a node may ask"),
        (request(groups=("system:authenticated",)), "only a node may ask"),
        (request("system:node:demo-worker-9"), "no node of the inventory is called demo-worker-9"),
        (request(common_name="system:node:demo-worker-2"), f"common name must be system:node:{NODE}"),
        (request(organization="system:masters"), "organization must be system:nodes alone"),
        (request(addresses=(ADDRESS, "10.30.0.32")), "it names 10.30.0.32"),
        (request(names=(NODE, "demo-worker-2")), "it names demo-worker-2"),
        (request(names=("kubernetes.default.svc",)), "it names kubernetes.default.svc"),
        (request(more=(x509.RFC822Name("root@demo"),)), "it names root@demo"),
        (request(more=(x509.UniformResourceIdentifier("spiffe://demo"),)), "it names spiffe://demo"),
        (request(names=(), addresses=()), "it names no address"),
        (request(usages=("digital signature", "client auth")), "usages must be server auth"),
        (request(usages=("digital signature",)), "usages must be server auth"),
    ],
)
def test_nothing_else_is_approved(asked: Any, why: str) -> None:
    assert why in review(asked)


def test_all_problems_are_named_at_once() -> None:
    said = review(request(organization="system:masters", addresses=("10.30.0.32",), usages=("client auth",)))
    assert "organization" in said
    assert "10.30.0.32" in said
    assert "usages" in said


def test_what_is_no_request_is_refused() -> None:
    asked = request()
    asked.request = base64.b64encode(b"no request").decode()
    assert "cannot be read" in review(asked)
