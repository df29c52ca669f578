{% set k8s = pillar['managed_k8s'] %}

Make the folder of managed-k8s:
  file.directory:
    - names:
      - /etc/managed-k8s
      - /var/lib/managed-k8s
    - mode: '0755'

# Addresses, routes and rules of keepalived, the pod network and kube-proxy outlive a restart of networkd.
Keep networkd from others' routes:
  file.managed:
    - name: /etc/systemd/networkd.conf.d/managed-k8s.conf
    - makedirs: True
    - mode: '0644'
    - contents: |
        [Network]
        ManageForeignRoutes=no
        ManageForeignRoutingPolicyRules=no

Set kernel parameters:
  file.managed:
    - name: /etc/sysctl.d/90-managed-k8s.conf
    - source: salt://common/sysctl.conf.jinja
    - template: jinja
    - mode: '0644'

Load kernel modules at boot:
  file.managed:
    - name: /etc/modules-load.d/managed-k8s.conf
    - mode: '0644'
    - contents: |
        overlay
        br_netfilter

# A server that is a container has the modules of its host, or not.
Apply kernel parameters:
  cmd.run:
    - name: modprobe --all --quiet overlay br_netfilter; sysctl --quiet --load=/etc/sysctl.d/90-managed-k8s.conf
    - onchanges:
      - file: Set kernel parameters

Write the firewall's rules:
  file.managed:
    - name: /etc/managed-k8s/firewall.nft
    - source: salt://{{ k8s.role if k8s.role == 'gateway' else 'kubernetes' }}/firewall.nft.jinja
    - template: jinja
    - mode: '0644'
    - check_cmd: nft --check --file
    - require:
      - file: Make the folder of managed-k8s

# Not nftables.service: it flushes everything, kube-proxy's rules too.
Write the firewall's service:
  file.managed:
    - name: /etc/systemd/system/managed-k8s-firewall.service
    - source: salt://common/firewall.service
    - mode: '0644'

Load the firewall:
  service.running:
    - name: managed-k8s-firewall
    - enable: True
    - reload: True
    - watch:
      - file: Write the firewall's rules
      - file: Write the firewall's service
    - require:
      - cmd: Install packages
