# A role is in a minion's id, which the Salt master gave; never in a grain, which the minion chooses.
base:
  '*-gateway-*':
    - gateway
  '*-master-*':
    - master
  '*-worker-*':
    - worker
