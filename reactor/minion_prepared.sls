{# A minion is ready for kubeadm: look at its cluster. The id is the one the master stamped. #}
Look at the cluster of a minion that is prepared:
  runner.managed_k8s.enqueue:
    - args:
      - id: {{ data['id'] | string | json }}
      - reason: ready for kubeadm
