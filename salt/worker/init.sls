include:
  - common
  - container_runtime
  - kubernetes
  - worker.configured
  - kubernetes.prepared
  - container_runtime.images
  - kubernetes.upcoming
  - common.done
