"""The connection to a cluster's API."""

from __future__ import annotations

from pathlib import Path

from kubernetes.client import ApiClient, Configuration
from kubernetes.config import new_client_from_config

# Requests at once; what runs in threads shares one connection pool.
_CONNECTIONS = 32


def connect(kubeconfig: Path) -> ApiClient:
    """Return a client of the cluster that a kubeconfig names. Raises kubernetes.config.ConfigException."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = _CONNECTIONS
    return new_client_from_config(str(kubeconfig), client_configuration=configuration)
