#!/bin/bash
# Turns a fresh server into a gateway or a Kubernetes node, as root on it, before Kubernetes is started.
#   by_hand_node.sh gateway MIRROR VIRTUAL_IP OWN_ADDRESS PEER_ADDRESS PRIORITY MASTER_ADDRESS...
#   by_hand_node.sh master|worker MIRROR VERSION
set -euo pipefail
role=$1 mirror=$2
shift 2

packages() {
  mkdir -p /etc/apt/keyrings
  curl -fsS -o /etc/apt/keyrings/mirror.gpg "$mirror/debian/mirror.gpg"
  echo "deb [signed-by=/etc/apt/keyrings/mirror.gpg] $mirror/debian bookworm main" > /etc/apt/sources.list.d/mirror.list
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-unsafe-io install --no-install-recommends "$@" > /dev/null
}

gateway() {
  local vip=$1 own=$2 peer=$3 priority=$4 number=0
  shift 4
  {
    cat <<END
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 3s
  timeout client 24h
  timeout server 24h
frontend health
  bind 127.0.0.1:8080
  mode http
  timeout client 5s
  acl dead nbsrv(apiserver) lt 1
  monitor-uri /healthz
  monitor fail if dead
frontend api
  bind :6443
  default_backend apiserver
backend apiserver
  option httpchk GET /readyz
  http-check expect status 200
  default-server check check-ssl verify none inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
END
    for master in "$@"; do
      number=$((number + 1))
      echo "  server master-$number $master:6443"
    done
  } > /etc/haproxy.new
  packages haproxy keepalived
  mv /etc/haproxy.new /etc/haproxy/haproxy.cfg
  cat > /etc/keepalived/keepalived.conf <<END
global_defs {
  vrrp_version 3
}
vrrp_instance api {
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority $priority
  advert_int 0.1
  unicast_src_ip $own
  unicast_peer {
    $peer
  }
  virtual_ipaddress {
    $vip/32 dev eth0
  }
}
END
  systemctl restart haproxy keepalived
}

containerd() {
  mkdir -p /etc/containerd /opt/cni/bin
  (cd /usr/local/bin && curl -fsS --parallel --remote-name-all "$source/bin/"{containerd,containerd-shim-runc-v2,ctr,runc} \
    && chmod 755 containerd containerd-shim-runc-v2 ctr runc)
  cat > /etc/containerd/config.toml <<END
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '$pause'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
END
  cat > /etc/systemd/system/containerd.service <<'END'
[Service]
ExecStartPre=-/bin/mount --make-rshared /
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
LimitNOFILE=1048576
TasksMax=infinity
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable --quiet --now containerd
}

kubernetes() {
  mkdir -p /etc/systemd/system/kubelet.service.d
  (cd /usr/local/bin && curl -fsS --parallel --remote-name-all "$source/bin/"{kubeadm,kubelet,kubectl} && chmod 755 kube*)
  (cd /opt/cni/bin && curl -fsS --parallel --remote-name-all \
    "$source/cni/"{bridge,firewall,flannel,host-local,loopback,portmap,bandwidth,tuning} && chmod 755 ./*)
  cat > /etc/systemd/system/kubelet.service <<'END'
[Unit]
After=containerd.service
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable --quiet kubelet
}

images() {
  for name in "$@"; do
    curl -fsS "$source/images/$name.tar" | ctr --namespace k8s.io images import --all-platforms=false - > /dev/null
  done
}

if [ "$role" = gateway ]; then
  gateway "$@"
  exit
fi

source=$mirror/kubernetes/$1
sysctl --quiet --write net.ipv4.ip_forward=1
pause=$(curl -fsS "$source/versions.json" | python3 -c '
import json, sys
for image in json.load(sys.stdin)["images"]:
    if image["archive"].endswith("/pause.tar"):
        print(image["name"] + ":" + image["tag"])')
packages conntrack ethtool iptables socat &
installed=$!
kubernetes &
kubernetes=$!
containerd
if [ "$role" = master ]; then
  images pause etcd kube-apiserver kube-controller-manager kube-scheduler
fi
wait $installed
wait $kubernetes
# What starts Kubernetes does not wait for the images of what runs on it.
touch /run/node-ready
images pause kube-proxy flannel coredns
if [ "$role" = master ]; then
  images openstack-cloud-controller-manager csi-provisioner csi-attacher csi-resizer csi-snapshotter snapshot-controller
fi
images cinder-csi-plugin csi-node-driver-registrar
