include:
  - common
  - container_runtime
  - kubernetes
  - master.configured
  - kubernetes.prepared
  - container_runtime.images
  - kubernetes.next_version
  - common.revision
