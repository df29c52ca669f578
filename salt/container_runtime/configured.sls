Configure containerd:
  file.managed:
    - name: /etc/containerd/config.toml
    - source: salt://container_runtime/config.toml.jinja
    - template: jinja
    - makedirs: True
    - mode: '0644'

Write containerd's service:
  file.managed:
    - name: /etc/systemd/system/containerd.service
    - source: salt://container_runtime/containerd.service
    - mode: '0644'
