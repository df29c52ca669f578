# What every server has. Roles include it and put their own between it and common.done.
include:
  - common.installed
  - common.configured
