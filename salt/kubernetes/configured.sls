# kubeadm writes what these name, and starts the kubelet when the node joins.
Write the kubelet's service:
  file.managed:
    - name: /etc/systemd/system/kubelet.service
    - source: salt://kubernetes/kubelet.service
    - mode: '0644'

Enable the kubelet:
  service.enabled:
    - name: kubelet
    - require:
      - file: Write the kubelet's service

Tell kubectl's user where the API is:
  file.managed:
    - name: /etc/profile.d/managed-k8s.sh
    - mode: '0644'
    - contents: |
        if [ -r /etc/kubernetes/admin.conf ]; then export KUBECONFIG=/etc/kubernetes/admin.conf; fi
