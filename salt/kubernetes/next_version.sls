{% set upcoming = pillar['managed_k8s']['upcoming'] %}
{# What this node needs once it is its turn to be upgraded; nothing of it runs before that. -#}
{% if upcoming %}
Install the kubeadm that will upgrade this node:
  managed_k8s_artifact.installed:
    - base: {{ upcoming.base }}
    - folder: /usr/local/lib/managed-k8s/upcoming
    - files: {{ upcoming.kubeadm | json }}

Import the container images of the version to come:
  managed_k8s_artifact.images_imported:
    - base: {{ upcoming.base }}
    - images: {{ upcoming.images | json }}
    - sums: {{ upcoming.sums | json }}
    - require:
      - service: Run containerd
{% else %}
Remove the kubeadm that upgraded this node:
  file.absent:
    - name: /usr/local/lib/managed-k8s/upcoming
{% endif %}
