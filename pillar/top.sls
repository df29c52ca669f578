# Nothing here: what a minion gets is decided by its id, in _pillar/managed_k8s.py.
base: {}
