"""The tables of a cluster's settings; the docstring below a setting is what docs/settings.md and messages say of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from managed_k8s.config import kubernetes_versions
from managed_k8s.config.validation import AddressText, CronText, NetworkText, Table
from managed_k8s.names import GATEWAY, MASTER, WORKER

Text = Annotated[str, Field(min_length=1)]
Networks = Annotated[tuple[NetworkText, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=10000)]
Percent = Annotated[int, Field(ge=0, le=100)]
EVERYWHERE = ("0.0.0.0/0",)


class OpenStack(Table):
    """The project that the cluster lives in."""

    cloud: Text
    """Name of the cloud in clouds.yaml."""
    external_network: Text
    """Network that floating IPs come from."""
    network_cidr: NetworkText = "10.30.0.0/24"
    """Addresses of the servers."""
    virtual_ip: AddressText = "10.30.0.5"
    """Address of the Kubernetes API inside network_cidr; the gateways hold it."""
    dns_servers: tuple[AddressText, ...] = ()
    """Name servers of the subnet; empty: the cloud's own."""
    anti_affinity: Literal["hard", "soft"] = "soft"
    """Whether gateways and masters must (hard) or should (soft) run on different hypervisors."""
    api_allowed_cidrs: Networks = EVERYWHERE
    """Who may reach the API's floating IP."""
    ssh_allowed_cidrs: Networks = EVERYWHERE
    """Who may reach the gateways by SSH."""
    access_rules: bool = True
    """Whether the cloud holds the application credential in Kubernetes to the requests that are needed
    (docs/security.md); false: it may do all that the role member may.
    """


class Kubernetes(Table):
    """The cluster itself; docs/networking.md says how the addresses relate."""

    version: str = kubernetes_versions.DEFAULT
    """Kubernetes version that the cluster begins with, one of managed_k8s/config/kubernetes_versions.py; later only
    managed_k8s.upgrade changes it (docs/upgrade.md).
    """
    pod_cidr: NetworkText = "10.244.0.0/16"
    """Addresses of pods; each node takes a /24."""
    service_cidr: NetworkText = "10.96.0.0/16"
    """Addresses of services."""
    cni: Literal["flannel", "none"] = "flannel"
    """Pod network; none: you bring your own (Cilium, Calico)."""
    pod_security: Literal["privileged", "baseline", "restricted"] = "baseline"
    """Pod Security level enforced where a namespace names none."""
    kubelet: dict[str, Any] = Field(default={})
    """More fields of KubeletConfiguration."""
    kube_proxy: dict[str, Any] = Field(default={})
    """More fields of KubeProxyConfiguration."""
    ignore_preflight_errors: tuple[str, ...] = ()
    """Names of kubeadm's checks that may fail."""


class ContainerRuntime(Table):
    """containerd."""

    cgroup_driver: Literal["systemd", "cgroupfs"] = "systemd"
    """Of containerd and the kubelet."""


class Gateway(Table):
    """The servers that lead to the API."""

    advertisement_interval: float = Field(default=0.1, ge=0.05, le=5)
    """Seconds between VRRP advertisements; a dead gateway is noticed after three."""
    connection_timeout_hours: int = Field(default=24, ge=1, le=168)
    """How long an idle connection to the API (a watch) is kept."""


class Maintenance(Table):
    """Nodes that are drained, upgraded, rebooted; certificates (docs/upgrade.md, docs/certificates.md); changing these
    touches no server.
    """

    drain_seconds: int = Field(default=300, ge=0, le=3600)
    """Seconds for which PodDisruptionBudgets may keep pods on a node that is to be removed, upgraded or rebooted; then
    they are deleted.
    """
    worker_batch: int = Field(default=1, ge=1, le=100)
    """How many workers at once are drained and upgraded, or rebooted."""
    certificate_days: int = Field(default=30, ge=1, le=330)
    """Days before their end at which the masters' certificates are renewed; kubeadm's are good for a year."""


class HealingOfRole(Table):
    """When and how often a server of the role is healed."""

    after_seconds: int = Field(default=60, ge=20, le=86400)
    """How long a server is ill before it is started, rebooted or replaced; after a replacement that did not help, twice
    as long.
    """
    attempts: int = Field(default=5, ge=1, le=100)
    """How often something is tried with it within the window before it is given up."""
    window_minutes: int = Field(default=30, ge=1, le=10080)
    """How long attempts count."""
    share_percent: Percent = 40
    """How many of the role's servers, but always one, are replaced within the window; when more are ill at once nothing
    is rebooted or replaced.
    """


class Healing(Table):
    """Servers that fall ill (docs/healing.md); changing these touches no server."""

    enabled: bool = True
    """Whether they are healed; false: nobody is said to be ill, either."""
    gateway: HealingOfRole = HealingOfRole()
    master: HealingOfRole = HealingOfRole()
    worker: HealingOfRole = HealingOfRole()

    def of(self, role: str) -> HealingOfRole:
        """Return what holds for servers of a role."""
        return {GATEWAY: self.gateway, MASTER: self.master, WORKER: self.worker}[role]


class Artifacts(Table):
    """Where programs, images and packages come from; docs/mirror.md."""

    url: str = Field(pattern="^https?://[^ ]+[^/ ]$", examples=["http://mirror.example.org"])
    """Mirror that servers install from (docs/mirror.md), without a slash at the end."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of kubernetes/<version>/SHA256SUMS on the mirror; null: what is seen first is trusted and kept."""
    debian: bool = True
    """Whether servers install Debian packages from the mirror rather than from their own sources."""


class Storage(Table):
    """The default storage class; docs/addons.md."""

    volume_type: str | None = None
    """Cinder volume type of the default storage class; null: the cloud's default."""
    availability_zone: str | None = None
    """Availability zone of volumes; null: that of the node."""


class Retention(Table):
    """How many backups stay; the newest good one always does."""

    last: Count = 8
    """The newest."""
    hourly: Count = 24
    """Beside them, the newest of so many hours."""
    daily: Count = 7
    """Beside them, of so many days."""
    weekly: Count = 4
    """Beside them, of so many weeks."""
    monthly: Count = 6
    """Beside them, of so many months."""


class VolumeRetention(Retention):
    """How many backups of each claim stay; the newest good one always does."""

    last: Count = 2
    """Of each claim, the newest."""
    hourly: Count = 0
    """Beside them, the newest of so many hours."""
    daily: Count = 5
    """Beside them, of so many days."""
    weekly: Count = 2
    """Beside them, of so many weeks."""
    monthly: Count = 0
    """Beside them, of so many months."""


class VolumeBackup(Table):
    """Backups in Cinder of the volumes of claims with the label managed-k8s/backup=true."""

    enabled: bool = True
    """Whether the volumes of claims with the label `managed-k8s/backup: "true"` are backed up on schedule."""
    schedule: CronText = "0 1 * * *"
    """When they are."""
    retention: VolumeRetention = VolumeRetention()
    max_age_minutes: int = Field(default=1560, ge=1, le=525600)
    """managed_k8s.check fails when the newest good backup of a claim is older."""
    timeout_minutes: int = Field(default=240, ge=1, le=10080)
    """How long Cinder may take for a backup or a restore."""


class Backup(Table):
    """Backups of etcd, certificates, keys and volumes (docs/backups.md); changing these touches no server."""

    enabled: bool = True
    """Whether they are made on schedule."""
    schedule: CronText = "*/15 * * * *"
    """When a backup is made."""
    repository: str | None = Field(
        default=None, pattern="^(/|[^/]*:)", examples=["/srv/backups/demo", "ssh://borg@backup.example.org/./demo"]
    )
    """Borg repository, a path that begins with / or a URL; null: a folder beside the Salt master's state."""
    retention: Retention = Retention()
    max_age_minutes: int = Field(default=60, ge=1, le=525600)
    """managed_k8s.check fails when the newest good backup is older."""
    drill_schedule: CronText = "30 2 * * *"
    """When the newest backup is restored into a scratch etcd on the Salt master."""
    volumes: VolumeBackup = VolumeBackup()


class Metrics(Table):
    """What Prometheus is told (docs/metrics.md); changing this touches no server."""

    file: str | None = Field(default=None, pattern="^/.*[.]prom$", examples=["/var/lib/node_exporter/demo.prom"])
    """File for node_exporter's textfile collector on the Salt master, a path like /var/lib/node_exporter/demo.prom, of
    this cluster alone; null: none is written.
    """
