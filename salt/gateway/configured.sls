{% set k8s = pillar['managed_k8s'] %}
{% if k8s.ca %}
Install the cluster CA for HAProxy:
  file.managed:
    - name: /etc/haproxy/kubernetes-ca.crt
    - contents_pillar: managed_k8s:ca
    - mode: '0644'
    - require:
      - cmd: Install packages
    - require_in:
      - file: Configure HAProxy
    - watch_in:
      - service: Run HAProxy
{% endif %}

Configure HAProxy:
  file.managed:
    - name: /etc/haproxy/haproxy.cfg
    - source: salt://gateway/haproxy.cfg.jinja
    - template: jinja
    - mode: '0644'
    - check_cmd: /usr/sbin/haproxy -c -q -f
    - tmp_ext: .cfg
    - require:
      - cmd: Install packages

Write the check of HAProxy:
  file.managed:
    - name: /usr/local/lib/managed-k8s/haproxy-answers
    - makedirs: True
    - mode: '0755'
    - contents: |
        #!/bin/sh
        # keepalived asks whether this gateway can serve: it gives the virtual IP away when not.
        exec curl --fail --silent --max-time 1 --output /dev/null http://127.0.0.1:8404/healthz

Configure keepalived:
  file.managed:
    - name: /etc/keepalived/keepalived.conf
    - source: salt://gateway/keepalived.conf.jinja
    - template: jinja
    - mode: '0644'
    - context:
        interface: {{ salt['managed_k8s_facts.interface']() }}
    - require:
      - cmd: Install packages

{% for service in ('haproxy', 'keepalived') %}
Isolate {{ service }}:
  file.managed:
    - name: /etc/systemd/system/{{ service }}.service.d/managed-k8s.conf
    - source: salt://gateway/{{ service }}.service.conf
    - makedirs: True
    - mode: '0644'
{% endfor %}
