# kubeadm has the kubelet look here, and makes it on masters only: on workers the kubelet would complain each second.
Make the folder of static pods:
  file.directory:
    - name: /etc/kubernetes/manifests
    - mode: '0700'
    - makedirs: True
