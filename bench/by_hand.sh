#!/bin/bash
# The same cluster as salt-cloud makes, by hand: OpenStack's API, ssh, kubeadm and kubectl, everything in the best order
# and side by side where it can be, without Salt, until the same smoke test passes.  What our way costs is measured
# against it.
#   bench/by_hand.sh up|down          prints seconds per step and in all
# Needs the account of a project with the image debian-12 (OS_CLIENT_CONFIG_FILE, OS_CLOUD) and the mirror.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=${XDG_STATE_HOME:-$HOME/.local/state}/managed-k8s/by-hand
python=$PWD/.venv/bin/python
version=${KUBERNETES_VERSION:-1.36.3} mirror=${MIRROR:-http://10.77.0.10}
export PYTHONPATH=$PWD
ignored='[SystemVerification, FileContent--proc-sys-net-bridge-bridge-nf-call-iptables, Mem, NumCPU, Swap]'

begun=$EPOCHREALTIME last=$EPOCHREALTIME
lap() {
  awk -v now="$EPOCHREALTIME" -v last="$last" -v begun="$begun" -v what="$1" \
    'BEGIN { printf "%6.1f s  %6.1f s  %s\n", now - last, now - begun, what }'
  last=$EPOCHREALTIME
}
fact() { "$python" -c 'import json, sys, functools
print(functools.reduce(lambda value, key: value[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$work/cloud.json" "$@"; }
on() { local server=$1; shift; ssh -F "$work/ssh.conf" "bh-$server" "$@"; }
all() { local server; for server in "${servers[@]}"; do "$1" "$server" & done; wait_all; }
wait_all() { local job; for job in $(jobs -p); do wait "$job"; done; }
reachable() {
  for _ in {1..200}; do on "$1" true 2> /dev/null && return; sleep 0.2; done
  echo "$1: no ssh" >&2
  return 1
}
kubectl() { on master-1 sudo kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"; }
# Only the last lines matter when kubeadm fails.
kubeadm() { on "$1" "sudo sh -c 'umask 077; cat > /root/kubeadm.yaml; kubeadm ${*:2} --config /root/kubeadm.yaml'" > "$work/$1.kubeadm" 2>&1 \
  || { tail -20 "$work/$1.kubeadm" >&2; return 1; }; }

prepare() {
  local role=${1%-*} own peer
  if [ "$role" = gateway ]; then
    own=$(fact addresses "bh-$1") peer=$(fact addresses "bh-gateway-$((3 - ${1#gateway-}))")
    on "$1" sudo bash -s gateway "$mirror" "$vip" "$own" "$peer" "$((100 - ${1#gateway-}))" \
      "$(fact addresses bh-master-1)" "$(fact addresses bh-master-2)" "$(fact addresses bh-master-3)"
  else
    on "$1" sudo bash -s "$role" "$mirror" "$version"
  fi < bench/by_hand_node.sh > "$work/$1.log" 2>&1
}
node_ready() { for _ in {1..600}; do on "$1" test -e /run/node-ready && return; sleep 0.2; done; }

registration() {
  cat <<END
nodeRegistration:
  kubeletExtraArgs: [{name: cloud-provider, value: external}]
  imagePullPolicy: Never  # what kubeadm itself needs is there; the rest is on its way
  ignorePreflightErrors: $ignored
END
}
init_configuration() {
  cat <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: $token, ttl: 1h}]
certificateKey: $certificate_key
$(registration)
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: bh
kubernetesVersion: v$version
controlPlaneEndpoint: $vip:6443
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
apiServer: {certSANs: [$vip, $public]}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
serverTLSBootstrap: true
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
}
join_configuration() {
  cat <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery: {bootstrapToken: {apiServerEndpoint: "$vip:6443", token: $token, caCertHashes: ["sha256:$ca_hash"]}}
$(registration)
END
  if [[ $1 = master-* ]]; then echo "controlPlane: {certificateKey: $certificate_key}"; fi
}
join() { node_ready "$1"; join_configuration "$1" | kubeadm "$1" join; lap "$1 joined"; }
join_masters() { join master-2; join master-3; }
# Objects of a kind that the same file defines are refused until that is served: again.
apply_addons() {
  for _ in {1..300}; do [ -e "$work/addons.yaml" ] && break; sleep 0.2; done
  for _ in {1..10}; do
    kubectl apply --server-side --filename - < "$work/addons.yaml" > "$work/addons.log" 2>&1 && return
    sleep 0.5
  done
  cat "$work/addons.log" >&2
  return 1
}

up() {
  local servers=(gateway-{1,2} master-{1,2,3} worker-{1,2}) token certificate_key ca_hash vip public
  mkdir -p "$work"
  chmod 700 "$work"
  rm -f "$work"/*
  ssh-keygen -q -t ed25519 -N '' -f "$work/id"
  token=$(openssl rand -hex 3).$(openssl rand -hex 8)
  certificate_key=$(openssl rand -hex 32)
  "$python" -m bench.by_hand_cloud up "$work"
  vip=$(fact virtual_ip) public=$(fact public api)
  lap "seven servers ACTIVE"
  reachable gateway-1 & reachable gateway-2 & wait_all
  all reachable
  lap "ssh everywhere"
  "$python" -m bench.by_hand_addons "$work" "$mirror" "$version" > "$work/addons.part" \
    && mv "$work/addons.part" "$work/addons.yaml" &
  for server in "${servers[@]}"; do prepare "$server" & done
  node_ready master-1
  for _ in {1..300}; do
    on gateway-1 systemctl is-active --quiet haproxy keepalived 2> /dev/null && break
    sleep 0.2
  done
  lap "first master and gateways ready"
  init_configuration | kubeadm master-1 init --upload-certs
  lap "master-1 initialised"
  ca_hash=$(on master-1 "sudo openssl x509 -pubkey -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1")
  { apply_addons; lap "add-ons applied"; } &
  join worker-1 & join worker-2 & join_masters &
  wait_all
  lap "all joined, all images imported"
  kubectl wait --for=condition=Ready nodes --all --timeout=300s > /dev/null
  lap "all nodes Ready"
  for _ in {1..300}; do
    kubectl get csr -o name --field-selector spec.signerName=kubernetes.io/kubelet-serving \
      | { xargs -r echo; } > "$work/requests"
    [ "$(wc -w < "$work/requests")" -ge 5 ] && break
    sleep 0.5
  done
  # shellcheck disable=SC2046
  kubectl certificate approve $(cat "$work/requests") > /dev/null
  (umask 077; on master-1 sudo cat /etc/kubernetes/admin.conf | sed "s|server: .*|server: https://$public:6443|" > "$work/kubeconfig")
  lap "serving certificates approved"
  # It waits for what is still being rolled out.
  "$python" -m bench.by_hand_smoke "$work/kubeconfig" > "$work/smoke.log" 2>&1 || { cat "$work/smoke.log" >&2; return 1; }
  lap "smoke-tested"
}

case ${1-} in
  up) up ;;
  down)
    for socket in "$work"/ssh-*; do
      # One whose server fell silent has ended by itself.
      [ ! -S "$socket" ] || ssh -F "$work/ssh.conf" -O exit "$(basename "${socket#*ssh-}")" 2> /dev/null || true
    done
    "$python" -m bench.by_hand_cloud down "$work"
    rm -rf "$work"
    lap "all removed"
    ;;
  *) sed -n '2,6s/^# *//p' "$0"; exit 2 ;;
esac
