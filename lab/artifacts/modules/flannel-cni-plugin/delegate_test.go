package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const subnetEnv = `FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_MTU=1400
FLANNEL_IPMASQ=true
`

func delegated(t *testing.T, conf, env string) (string, error) {
	path := filepath.Join(t.TempDir(), "subnet.env")
	if err := os.WriteFile(path, []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := parseConf([]byte(conf))
	if err != nil {
		return "", err
	}
	lease, err := readLease(path)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(parsed.delegate(lease))
	return string(data), err
}

func TestDelegate(t *testing.T) {
	for name, c := range map[string]struct{ conf, env, want string }{
		"from the lease alone, host bits dropped": {
			`{"name": "cbr0", "cniVersion": "1.0.0", "type": "flannel"}`, subnetEnv,
			`{"cniVersion":"1.0.0","ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.1.0/24"}]],` +
				`"routes":[{"dst":"10.244.0.0/16"}],"type":"host-local"},"isGateway":true,"mtu":1400,"name":"cbr0","type":"bridge"}`,
		},
		"what the user set wins": {
			`{"name": "n", "cniVersion": "1.0.0", "delegate": {"type": "ptp", "mtu": 9000, "ipam": {"type": "dhcp"}},` +
				`"runtimeConfig": {"mac": "x"}}`, subnetEnv,
			`{"cniVersion":"1.0.0","ipMasq":false,"ipam":{"type":"dhcp"},"mtu":9000,"name":"n","runtimeConfig":{"mac":"x"},"type":"ptp"}`,
		},
		"two address families": {
			`{"name": "n", "cniVersion": "1.0.0"}`,
			"FLANNEL_SUBNET=10.1.2.1/24\nFLANNEL_IPV6_SUBNET=fd00:1::1/64\nFLANNEL_NETWORK=10.1.0.0/16,10.2.0.0/16\n",
			`{"cniVersion":"1.0.0","ipMasq":true,"ipam":{"ranges":[[{"subnet":"10.1.2.0/24"}],[{"subnet":"fd00:1::/64"}]],` +
				`"routes":[{"dst":"10.1.0.0/16"},{"dst":"10.2.0.0/16"}],"type":"host-local"},"isGateway":true,"name":"n","type":"bridge"}`,
		},
	} {
		if got, err := delegated(t, c.conf, c.env); err != nil || got != c.want {
			t.Errorf("%s:\n got %s (%v)\nwant %s", name, got, err, c.want)
		}
	}
}

func TestRefusesAnUnusableLease(t *testing.T) {
	for env, want := range map[string]string{
		"":                            "names no subnet",
		"FLANNEL_SUBNET=10.244.1.1\n": "FLANNEL_SUBNET",
		"FLANNEL_SUBNET=10.1.1.1/24\nFLANNEL_MTU=big\n": "FLANNEL_MTU",
	} {
		if _, err := delegated(t, `{"name": "n"}`, env); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error about %q", env, err, want)
		}
	}
	if _, err := readLease(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing lease is no error")
	}
}
