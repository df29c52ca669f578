"""What managed-k8s knows and decides, in plain Python; the Salt modules in the folders with an underscore are its faces."""
