include:
  - kubernetes.installed
  - kubernetes.configured
