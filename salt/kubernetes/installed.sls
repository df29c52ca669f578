{% set k8s = pillar['managed_k8s'] %}
Install the kubelet, kubeadm and kubectl:
  managed_k8s_artifact.installed:
    - base: {{ k8s.artifacts.base }}
    - folder: /usr/local/bin
    - files: {{ salt['managed_k8s_facts.artifacts_of']('kubernetes').bin | json }}
