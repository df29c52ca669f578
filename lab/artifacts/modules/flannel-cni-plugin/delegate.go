package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// netConf is flannel's network configuration, as in its documentation.
type netConf struct {
	types.PluginConf
	SubnetFile    string         `json:"subnetFile"`
	DataDir       string         `json:"dataDir"`
	Delegate      map[string]any `json:"delegate"`
	RuntimeConfig map[string]any `json:"runtimeConfig"`
}

// lease is what flanneld wrote into subnet.env.
type lease struct {
	networks   []netip.Prefix // where all pods of the cluster are
	subnets    []netip.Prefix // where this node's pods are
	mtu        int            // 0: the kernel's default
	masquerade bool           // flanneld masquerades, so the bridge must not
}

func parseConf(data []byte) (*netConf, error) {
	conf := &netConf{SubnetFile: "/run/flannel/subnet.env", DataDir: "/var/lib/cni/flannel"}
	if err := json.Unmarshal(data, conf); err != nil {
		return nil, fmt.Errorf("flannel's network configuration: %w", err)
	}
	return conf, nil
}

func readLease(path string) (*lease, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("flanneld has not written its lease yet: %w", err)
	}
	defer file.Close()
	result := &lease{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch name {
		case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
			result.networks, err = appendPrefixes(result.networks, value)
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			result.subnets, err = appendPrefixes(result.subnets, value)
		case "FLANNEL_MTU":
			result.mtu, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			result.masquerade, err = strconv.ParseBool(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
	}
	if len(result.subnets) == 0 {
		return nil, fmt.Errorf("%s names no subnet", path)
	}
	return result, lines.Err()
}

// appendPrefixes takes a comma-separated list. flanneld writes the node's own address (10.244.1.1/24), which
// host-local refuses as a subnet, so the host bits are dropped.
func appendPrefixes(list []netip.Prefix, value string) ([]netip.Prefix, error) {
	for _, item := range strings.Split(value, ",") {
		if item == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			return nil, err
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}

// delegate returns the configuration of the plugin that does the work: what the user set, completed from the lease.
func (c *netConf) delegate(l *lease) map[string]any {
	result := map[string]any{
		"type":   "bridge",
		"ipMasq": !l.masquerade,
		"ipam":   map[string]any{"type": "host-local", "ranges": ranges(l.subnets), "routes": routes(l.networks)},
	}
	if l.mtu != 0 {
		result["mtu"] = l.mtu
	}
	for name, value := range c.Delegate {
		result[name] = value
	}
	if _, given := result["isGateway"]; !given && result["type"] == "bridge" {
		result["isGateway"] = true
	}
	result["name"], result["cniVersion"] = c.Name, c.CNIVersion
	if c.RuntimeConfig != nil {
		result["runtimeConfig"] = c.RuntimeConfig
	}
	return result
}

func ranges(subnets []netip.Prefix) [][]map[string]string {
	result := [][]map[string]string{}
	for _, subnet := range subnets {
		result = append(result, []map[string]string{{"subnet": subnet.String()}})
	}
	return result
}

func routes(networks []netip.Prefix) []map[string]string {
	result := []map[string]string{}
	for _, network := range networks {
		result = append(result, map[string]string{"dst": network.String()})
	}
	return result
}
