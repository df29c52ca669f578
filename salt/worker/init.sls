include:
  - common
  - container_runtime
  - kubernetes
  - common.done
