"""Changing a running cluster node after node: Kubernetes' version, certificates, packages and reboots."""
