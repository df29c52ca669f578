# What every server has. Roles include it and put their own between it and common.revision.
include:
  - common.installed
  - common.configured
