{# A node says that something on it does not work, or does again: look at its cluster. What it says is not used. #}
Look at the cluster of a node that says what ails it:
  runner.managed_k8s.enqueue:
    - args:
      - id: {{ tag.split('/')[2] | json }}
      - reason: a node says that something changed on it
