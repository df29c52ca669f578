# A change of the configuration reloads: connections that are open stay open.
Run HAProxy:
  service.running:
    - name: haproxy
    - enable: True
    - reload: True
    - watch:
      - file: Configure HAProxy
    - require:
      - service: Load the firewall

Restart HAProxy in another isolation:
  module.wait:
    - service.restart:
      - name: haproxy
    - watch:
      - file: Isolate haproxy

Run keepalived:
  service.running:
    - name: keepalived
    - enable: True
    - reload: True
    - watch:
      - file: Configure keepalived
    - require:
      - file: Write the check of HAProxy
      - service: Run HAProxy

Restart keepalived in another isolation:
  module.wait:
    - service.restart:
      - name: keepalived
    - watch:
      - file: Isolate keepalived
