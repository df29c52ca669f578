{% set k8s = pillar['managed_k8s'] %}
Import the other container images:
  artifact.images_imported:
    - base: {{ k8s.artifacts.base }}
    - images: {{ k8s.images.later | json }}
    - sums: {{ k8s.artifacts.sums | json }}
    - require:
      - artifact: Import the first container images
