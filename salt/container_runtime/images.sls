{% set k8s = pillar['managed_k8s'] %}
Import the other container images:
  managed_k8s_artifact.images_imported:
    - base: {{ k8s.artifacts.base }}
    - images: {{ k8s.images.later | json }}
    - sums: {{ k8s.artifacts.sums | json }}
    - require:
      - managed_k8s_artifact: Import the first container images
