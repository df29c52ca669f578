# From here on kubeadm can run, beside what is left to do: the reconciler is told, and looks.
Note what kubeadm may run with:
  file.managed:
    - name: /etc/managed-k8s/prepared
    - contents: {{ pillar['managed_k8s']['revision'] }}
    - mode: '0644'

Tell the Salt master that kubeadm may run:
  event.send:
    - name: managed_k8s/minion/prepared
    - onchanges:
      - file: Note what kubeadm may run with
