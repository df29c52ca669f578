{# The watch says that a server fell silent, or is heard again: look at its cluster. #}
Look at the cluster of a server that is silent, or heard again:
  runner.managed_k8s.enqueue:
    - args:
      - id: {{ tag.split('/')[2] | json }}
      - reason: {{ tag.split('/')[3] | json }}
