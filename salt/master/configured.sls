# Files that the kube-apiserver reads; kubeadm.yaml mounts the folder into its pod.
Make the control plane's folder:
  file.directory:
    - name: /etc/kubernetes/managed-k8s
    - mode: '0700'
    - makedirs: True

Make the folder of audit logs:
  file.directory:
    - name: /var/log/kubernetes
    - mode: '0700'

{% for file, what in (
  ('admission.yaml', 'Set the default of Pod Security'),
  ('audit.yaml', 'Say what is audited'),
  ('authentication.yaml', 'Configure anonymous authentication'),
) %}
{{ what }}:
  file.managed:
    - name: /etc/kubernetes/managed-k8s/{{ file }}
    - source: salt://master/{{ file }}.jinja
    - template: jinja
    - mode: '0600'
    - require:
      - file: Make the control plane's folder
{% endfor %}

Encrypt Secrets at rest:
  file.managed:
    - name: /etc/kubernetes/managed-k8s/encryption.yaml
    - source: salt://master/encryption.yaml.jinja
    - template: jinja
    - mode: '0600'
    - show_changes: False
    - require:
      - file: Make the control plane's folder

Write kubeadm's configuration:
  file.managed:
    - name: /etc/managed-k8s/kubeadm.yaml
    - mode: '0600'
    - contents_pillar: managed_k8s:kubeadm:init
    - require:
      - file: Make the folder of managed-k8s
