# Settings of cluster demo, in the lab. docs/settings.md has all of them.
managed_k8s:
  openstack:
    cloud: lab
    external_network: external
    dns_servers: [10.77.0.10]
    anti_affinity: soft
  artifacts:
    url: http://10.77.0.10
  storage:
    availability_zone: nova

  # The lab's servers are system containers on one machine: they share its kernel, its memory and cgroup v1.
  container_runtime:
    cgroup_driver: cgroupfs
  kubernetes:
    kubelet: {failCgroupV1: false, failSwapOn: false}
    kube_proxy: {conntrack: {maxPerCore: 0, min: 0}}
    ignore_preflight_errors: [SystemVerification, FileContent--proc-sys-net-bridge-bridge-nf-call-iptables, Mem, NumCPU, Swap]
