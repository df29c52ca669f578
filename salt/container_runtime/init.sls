include:
  - container_runtime.installed
  - container_runtime.configured
  - container_runtime.running
