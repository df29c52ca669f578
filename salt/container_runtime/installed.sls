{% set k8s = pillar['managed_k8s'] %}
{% set files = salt['managed_k8s_facts.artifacts_of']('container_runtime') %}

Install containerd and runc:
  managed_k8s_artifact.installed:
    - base: {{ k8s.artifacts.base }}
    - folder: /usr/local/bin
    - files: {{ files.bin | json }}
    - require:
      - cmd: Install packages

Install CNI plugins:
  managed_k8s_artifact.installed:
    - base: {{ k8s.artifacts.base }}
    - folder: /opt/cni/bin
    - files: {{ files.cni | json }}
