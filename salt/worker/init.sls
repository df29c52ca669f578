include:
  - common
  - container_runtime
  - kubernetes
  - kubernetes.prepared
  - container_runtime.images
  - kubernetes.upcoming
  - common.done
