{# A minion came up: look whether there is something to do for its cluster. The id is the one the master stamped. #}
Look at the cluster of a minion that came up:
  runner.managed_k8s.enqueue:
    - args:
      - id: {{ data['id'] | string | json }}
      - reason: minion started
