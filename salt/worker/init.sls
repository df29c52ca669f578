include:
  - common
  - container_runtime
  - kubernetes
  - worker.configured
  - kubernetes.prepared
  - container_runtime.images
  - kubernetes.next_version
  - common.revision
