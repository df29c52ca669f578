include:
  - common
  - container_runtime
  - kubernetes
  - master.configured
  - common.done
