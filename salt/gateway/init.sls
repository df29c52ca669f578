include:
  - common
  - gateway.configured
  - gateway.running
  - common.revision
