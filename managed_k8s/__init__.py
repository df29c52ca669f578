"""What managed-k8s knows and decides, in plain Python; the Salt modules are its faces."""
