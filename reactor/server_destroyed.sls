{# salt-cloud removed a server: look at its cluster. #}
Look at the cluster of a server that was removed:
  runner.managed_k8s.enqueue:
    - args:
      - id: {{ tag.split('/')[2] | json }}
      - reason: server removed
