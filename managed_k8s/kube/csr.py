"""Kubelets' serving certificates: approved when they are for the node that asks, and for nothing else.

Kubernetes leaves this to the cluster's owner, who alone knows which addresses are whose.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from kubernetes.client import ApiClient, CertificatesV1Api, V1CertificateSigningRequestCondition

_SIGNER = "kubernetes.io/kubelet-serving"
_PREFIX = "system:node:"
_GROUP = "system:nodes"
_USAGES = {"digital signature", "key encipherment", "server auth"}


def approve_serving(
    api: ApiClient, addresses: Mapping[str, str], refuse: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Approve what nodes rightly ask for; return the names of the approved requests.

    addresses: node -> its fixed address, from the inventory.
    refuse: gets a line for every other request. Those stay pending: the node may become known, and Kubernetes deletes
    them after a day.
    Raises ApiException.
    """
    certificates = CertificatesV1Api(api)
    approved = []
    answer = certificates.list_certificate_signing_request(field_selector=f"spec.signerName={_SIGNER}")
    for request in answer.items:
        if request.status.conditions:
            continue
        problems = review(request.spec, addresses)
        if problems:
            refuse(f"certificate request {request.metadata.name} of {request.spec.username}: {'; '.join(problems)}")
        else:
            _approve(certificates, request)
            approved.append(str(request.metadata.name))
    return approved


def review(request: Any, addresses: Mapping[str, str]) -> list[str]:
    """Return why a serving certificate must not be had; empty: it may.

    request: the `spec` of a CertificateSigningRequest.
    addresses: node -> its fixed address.
    """
    name = (request.username or "").removeprefix(_PREFIX)
    if not (request.username or "").startswith(_PREFIX) or _GROUP not in (request.groups or []):
        return ["only a node may ask"]
    if name not in addresses:
        return [f"no node of the inventory is called {name}"]
    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(request.request))
        signed = asked.is_signature_valid
        subject = asked.subject
        alternatives = _alternatives(asked)
    except ValueError as error:
        return [f"it cannot be read: {error}"]
    usages = set(request.usages or [])
    problems = [] if signed else ["its signature is wrong"]
    if [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] != [request.username]:
        problems.append(f"its common name must be {request.username}")
    if [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] != [_GROUP]:
        problems.append(f"its organization must be {_GROUP} alone")
    if not usages <= _USAGES or "server auth" not in usages:
        problems.append(f"its usages must be server auth and of {', '.join(sorted(_USAGES))}")
    own = {name, addresses[name]}
    foreign = sorted(set(alternatives) - own)
    if foreign:
        problems.append(f"it names {', '.join(foreign)}, and the node has only {', '.join(sorted(own))}")
    if not alternatives:
        problems.append("it names no address")
    return problems


def _alternatives(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(getattr(each, "value", each)) for each in extension.value]


def _approve(certificates: CertificatesV1Api, request: Any) -> None:
    now = datetime.now(UTC)
    request.status.conditions = [
        V1CertificateSigningRequestCondition(
            type="Approved",
            status="True",
            reason="NodeOwnsItsAddresses",
            message="managed-k8s: the node's name and address are those of the inventory",
            last_update_time=now,
        )
    ]
    certificates.replace_certificate_signing_request_approval(request.metadata.name, request)
