{% set k8s = pillar['managed_k8s'] %}
Run containerd:
  service.running:
    - name: containerd
    - enable: True
    - watch:
      - file: Configure containerd
      - file: Write containerd's service
      - managed_k8s_artifact: Install containerd and runc

# What a node needs to join; container_runtime.images has the others.
Import the first container images:
  managed_k8s_artifact.images_imported:
    - base: {{ k8s.artifacts.base }}
    - images: {{ k8s.images.first | json }}
    - sums: {{ k8s.artifacts.sums | json }}
    - require:
      - service: Run containerd
      - file: Make the folder of managed-k8s
