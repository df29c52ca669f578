{% set k8s = pillar['managed_k8s'] %}
Run containerd:
  service.running:
    - name: containerd
    - enable: True
    - watch:
      - file: Configure containerd
      - file: Write containerd's service
      - artifact: Install containerd and runc

Import container images:
  artifact.images_imported:
    - base: {{ k8s.artifacts.base }}
    - images: {{ k8s.images | json }}
    - sums: {{ k8s.artifacts.sums | json }}
    - require:
      - service: Run containerd
      - file: Make the folder of managed-k8s
