"""The connection to a cluster's API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient, Configuration
from kubernetes.config import load_kube_config

# Requests at once; what runs in threads shares one connection pool.
_CONNECTIONS = 32
# Seconds until a connection is there, TLS included, and between two pieces of an answer. An API server ends a request
# after 60 by itself; a gateway that lost its power in the middle of one says nothing, ever.
_CONNECT, _READ = 10.0, 70.0


class _Client(ApiClient):  # type: ignore[misc]  # it has no types
    """A client that waits for no answer without end, as the library's own does."""

    def call_api(self, *request: Any, _request_timeout: Any = None, **options: Any) -> Any:
        return super().call_api(*request, _request_timeout=_request_timeout or (_CONNECT, _READ), **options)


def connect(kubeconfig: Path) -> ApiClient:
    """Return a client of the cluster that a kubeconfig names. Raises kubernetes.config.ConfigException."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = _CONNECTIONS
    load_kube_config(str(kubeconfig), client_configuration=configuration)
    return _Client(configuration=configuration)
