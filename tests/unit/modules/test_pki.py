"""What a node says of its certificates, and how new ones are made."""

import base64
import datetime
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from salt.exceptions import CommandExecutionError

from tests.support.minion_modules import load_module

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
TODAY = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def module(tmp_path, monkeypatch) -> Any:
    made = load_module("managed_k8s_pki", {"managed_k8s": {"name": "demo-master-1"}})
    for name in ("KUBERNETES", "PKI", "KUBELET"):
        path = tmp_path / str(getattr(made.common, name)).lstrip("/")
        monkeypatch.setattr(made.common, name, path)
        path.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(made, "_RENEWING", tmp_path / "renewing")
    monkeypatch.setattr(made, "_GATEWAYS_CA", tmp_path / "kubernetes-ca.crt")
    made.__salt__["managed_k8s_control_plane.restart"] = list
    return made


@pytest.fixture
def calls(module, monkeypatch):
    made = []

    def run(*words, limit):
        made.append([word.rpartition("/")[2] if n == 0 else word for n, word in enumerate(words)])
        return ""

    monkeypatch.setattr(module.common, "run", run)
    return made


# When they end


def pem(days, with_key=False):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(NOW - DAY).not_valid_after(NOW + days * DAY).sign(key, hashes.SHA256())
    )  # fmt: skip
    text = made.public_bytes(serialization.Encoding.PEM).decode()
    if not with_key:
        return text
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode() + text


def end(days):
    return (NOW + days * DAY).timestamp()


def test_the_first_certificate_of_each_kind_counts(module):
    (module.common.PKI / "etcd").mkdir()
    (module.common.KUBELET / "pki").mkdir()
    for path, days in (("ca.crt", 3000), ("etcd/ca.crt", 2000), ("apiserver.crt", 90), ("etcd/peer.crt", 80)):
        (module.common.PKI / path).write_text(pem(days))
    (module.common.KUBELET / "pki" / "kubelet-client-current.pem").write_text(pem(60, with_key=True))
    told = {"control_plane": end(80), "kubelet": end(60), "authority": end(2000), "renewing": False}
    assert module.expiry() == told
    embedded = base64.b64encode(pem(70).encode()).decode()
    text = yaml.safe_dump({"users": [{"user": {"client-certificate-data": embedded}}]}, width=10**9)
    (module.common.KUBERNETES / "scheduler.conf").write_text(text)
    module._RENEWING.touch()
    assert module.expiry() == told | {"control_plane": end(70), "renewing": True}


def test_a_worker_has_no_certificates_of_kubeadm(module):
    (module.common.PKI / "ca.crt").write_text(pem(3000))
    (module.common.PKI / "broken.crt").write_text("this is none")
    assert module.expiry() == {
        "control_plane": None, "kubelet": None, "authority": end(3000), "renewing": False,
    }  # fmt: skip


def test_a_gateway_knows_when_the_authority_ends(module):
    module._GATEWAYS_CA.write_text(pem(3000))
    assert module.expiry()["authority"] == end(3000)


# Renewal


def test_renewed_certificates_are_taken_into_use(module, calls):
    module.__salt__["managed_k8s_control_plane.restart"] = lambda: calls.append("restarted") or ["etcd"]
    assert module.renew() == {"not_well_yet": ["etcd"]}
    assert calls == [["kubeadm", "certs", "renew", "all"], "restarted"]
    assert not module._RENEWING.is_file()


@pytest.mark.parametrize(("days", "renewed"), [(-1, True), (5000, False)])
def test_a_masters_kubelet_whose_certificate_ended_gets_one(module, calls, monkeypatch, days, renewed):
    """It would not even start without, and then no static pod does."""
    folder = module.common.KUBELET / "pki"
    folder.mkdir()
    old, current = folder / "kubelet-client-old.pem", folder / "kubelet-client-current.pem"
    old.write_text(pem(days, with_key=True))
    current.symlink_to(old)
    parts = {part: base64.b64encode(f"new {part}\n".encode()).decode() for part in ("certificate", "key")}
    encoded = {f"client-{part}-data": data for part, data in parts.items()}
    plain = module.common.run

    def run(*words, limit, env=None):
        plain(*words, limit=limit)
        return yaml.safe_dump({"users": [{"user": encoded}]}) if words[1:3] == ("kubeconfig", "user") else ""

    monkeypatch.setattr(module.common, "run", run)
    module.renew()
    assert (["systemctl", "restart", "kubelet"] in calls) is renewed
    assert current.is_symlink()
    assert (current.read_text() == "new certificate\nnew key\n") is renewed
    if renewed:
        assert "--client-name=system:node:demo-master-1" in calls[1]
        assert current.resolve().stat().st_mode & 0o777 == 0o600
        assert old.is_file()


def test_a_renewal_that_ended_by_halves_is_told(module, calls):
    def fail():
        raise CommandExecutionError("the kubelet does not restart etcd")

    module.__salt__["managed_k8s_control_plane.restart"] = fail
    with pytest.raises(CommandExecutionError, match="does not restart etcd"):
        module.renew()
    assert module.expiry()["renewing"] is True


# What is wrong with them


class Authority:
    """Signs certificates."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def sign(self, name, key, days=1):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if name else self.name
        return (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(TODAY - datetime.timedelta(9)).not_valid_after(TODAY + datetime.timedelta(days))
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip


def write(folder, name, key, certificate=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = serialization.Encoding.PEM
    path.with_name(path.name + ".key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    if certificate:
        path.with_name(path.name + ".crt").write_bytes(certificate.public_bytes(encoding))


@pytest.fixture
def certified(module):
    """A master whose certificates are in order."""
    authorities = {name: Authority(name) for name in ("ca", "etcd/ca", "front-proxy-ca")}
    for name, authority in authorities.items():
        write(module.common.PKI, name, authority.key, authority.sign("", authority.key))
    for name, signer in module._SIGNED.items():
        key = ec.generate_private_key(ec.SECP256R1())
        write(module.common.PKI, name, key, authorities[signer].sign(name, key))
    account = ec.generate_private_key(ec.SECP256R1())
    write(module.common.PKI, "sa", account)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (module.common.PKI / "sa.pub").write_bytes(account.public_key().public_bytes(serialization.Encoding.PEM, form))
    for name in module.common.KUBECONFIGS:
        (module.common.KUBERNETES / name).write_text("x")
    module.authorities = authorities
    return module


def test_certificates_in_order_have_no_faults(certified):
    assert certified.faults() == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pki: (pki / "ca.key").unlink(), "ca.key is missing"),
        (lambda pki: (pki / "etcd" / "peer.crt").write_text("torn"), "etcd/peer.crt or etcd/peer.key is damaged"),
        (lambda pki: (pki / "apiserver.key").write_bytes((pki / "sa.key").read_bytes()), "is not for apiserver.key"),
        (lambda pki: (pki / "sa.pub").write_text("torn"), "sa.key or sa.pub cannot be read"),
        (lambda pki: (pki.parent / "admin.conf").write_text(""), "admin.conf is missing or empty"),
        (lambda pki: (pki / "ca.crt").write_bytes((pki / "etcd" / "ca.crt").read_bytes()), "not signed by ca.crt"),
    ],
)
def test_every_damage_is_named_and_no_key_is_shown(certified, spoil, said):
    spoil(certified.common.PKI)
    faults = "; ".join(certified.faults())
    assert said in faults
    assert "PRIVATE" not in faults


def test_certificates_that_ended_are_faults(certified):
    key = ec.generate_private_key(ec.SECP256R1())
    write(certified.common.PKI, "apiserver", key, certified.authorities["ca"].sign("apiserver", key, days=-2))
    assert any(fault.startswith("apiserver.crt ended ") for fault in certified.faults())


def test_what_is_made_anew_is_not_what_was_there(certified, calls):
    (certified.common.KUBERNETES / "kubelet.conf").write_text("the kubelet's own")
    assert certified.make_anew()
    left = sorted(str(path.relative_to(certified.common.PKI)) for path in certified.common.PKI.rglob("*.*"))
    assert left == [
        "ca.crt", "ca.key", "etcd/ca.crt", "etcd/ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key",
        "sa.pub",
    ]  # fmt: skip
    assert [words[3:5] for words in calls] == [
        ["certs", "all"], ["kubeconfig", "admin"], ["kubeconfig", "controller-manager"], ["kubeconfig", "scheduler"],
    ]  # fmt: skip


# Signing


def request(key, name="demo-admin"):
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "admins"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_a_request_becomes_a_client_certificate_and_no_more(certified):
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.load_pem_x509_certificate(certified.sign_client(request(key), days=30).encode())
    authority = x509.load_pem_x509_certificate(certified.ca_certificate().encode())
    made.verify_directly_issued_by(authority)
    assert made.public_key() == key.public_key()
    assert made.subject.rfc4514_string() == "CN=demo-admin,O=admins"
    assert made.not_valid_before_utc <= datetime.datetime.now(datetime.UTC)
    assert made.not_valid_after_utc - made.not_valid_before_utc == datetime.timedelta(days=30)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    extended = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_what_is_no_request_is_not_signed(certified):
    with pytest.raises(CommandExecutionError, match="cannot be signed"):
        certified.sign_client("torn")
