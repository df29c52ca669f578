"""The lab's state folder: what it was made from, its secrets, certificates and accounts."""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import Any

import trustme
import yaml

from lab.cache import key
from lab.cloud import bootstrap, project
from lab.cloud.packages import inputs as package_inputs
from lab.files import write
from lab.settings import Settings

SECRETS = ("admin", "database", "messages", "metadata", "service", "user")


class State:
    """The files below `settings.state`.  The folder is root's alone: it holds the cloud's passwords."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.state
        self.machine = self.folder / "machine"
        self.sysctls = self.folder / "sysctls.json"
        self.authority = self.folder / "ca.pem"
        self.clouds = self.folder / "clouds.yaml"
        self._stamp = self.folder / "stamp.json"

    @property
    def exists(self) -> bool:
        """Whether a lab was made here."""
        return self._stamp.exists()

    def make(self) -> None:
        """Make folder, secrets, certificates and accounts, where they are missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._make_secrets()
        self._make_certificates()
        write(self.clouds, yaml.safe_dump({"clouds": {"lab": self._account(project.NAME, "user", project.NAME)}}))
        if not self.exists:
            self.stamp()

    # Stamp

    def inputs(self) -> dict[str, str]:
        """Return what a lab's data depends on; when one of these changes, it cannot be carried over."""
        return {"packages of the cloud": key(package_inputs()), **dataclasses.asdict(self.settings.addresses)}

    def stamp(self) -> None:
        """Note what this lab is made from."""
        write(self._stamp, json.dumps(self.inputs(), indent=1))

    def changed(self) -> list[str]:
        """Return which inputs are not those that the lab here was made from."""
        if not self.exists:
            return []
        made_from = json.loads(self._stamp.read_text())
        return [name for name, value in self.inputs().items() if made_from.get(name) != value]

    # Secrets and accounts

    def _make_secrets(self) -> None:
        file = self.folder / "secrets.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        missing = {name: secrets.token_urlsafe(18) for name in SECRETS if name not in known}
        if missing:
            write(file, json.dumps(known | missing, indent=1))

    @property
    def secrets(self) -> dict[str, str]:
        """The cloud's passwords by purpose."""
        return dict(json.loads((self.folder / "secrets.json").read_text()))

    def _account(self, user: str, secret: str, project_name: str) -> dict[str, Any]:
        return {
            "auth": {
                "auth_url": self.settings.auth_url,
                "username": user,
                "password": self.secrets[secret],
                "project_name": project_name,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "cacert": str(self.authority),
            "region_name": bootstrap.REGION,
            "identity_api_version": "3",
            "volume_api_version": "3",
        }

    def admin(self) -> dict[str, Any]:
        """Return the arguments for openstack.connect as the cloud's administrator, which only the lab itself is."""
        return {**self._account("admin", "admin", "admin"), "load_yaml_config": False, "load_envvars": False}

    # Certificates

    def _make_certificates(self) -> None:
        authority_key, endpoints = self.folder / "ca-key.pem", self.folder / "endpoints.pem"
        if endpoints.exists():
            return
        authority = trustme.CA(organization_name="managed-k8s lab")
        certificate = authority.issue_cert(str(self.settings.addresses.api), common_name="lab")
        write(authority_key, authority.private_key_pem.bytes().decode())
        write(self.authority, authority.cert_pem.bytes().decode(), 0o644)
        write(endpoints, certificate.private_key_and_cert_chain_pem.bytes().decode())

    def certificate(self) -> str:
        """Return the endpoints' key and certificate chain, PEM."""
        return (self.folder / "endpoints.pem").read_text()
