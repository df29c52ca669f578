// flannel is the CNI plugin that gives pods their addresses from the node's flannel subnet. It reads the lease that
// flanneld wrote, and has another plugin (bridge, unless the configuration names one) do the work.
// It stands in for github.com/flannel-io/cni-plugin, which is no Go module that a proxy serves.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Check: check, Del: del, Status: status}, version.All, "flannel")
}

func add(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	lease, err := readLease(conf.SubnetFile)
	if err != nil {
		return err
	}
	delegate := conf.delegate(lease)
	data, err := json.Marshal(delegate)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(conf.DataDir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(conf.saved(args), data, 0o600); err != nil {
		return err
	}
	name, err := pluginType(data)
	if err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), name, data, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return result.Print()
}

func check(args *skel.CmdArgs) error {
	return withSaved(args, func(name string, data []byte, _ string) error {
		return invoke.DelegateCheck(context.Background(), name, data, nil)
	})
}

func del(args *skel.CmdArgs) error {
	return withSaved(args, func(name string, data []byte, path string) error {
		if err := invoke.DelegateDel(context.Background(), name, data, nil); err != nil {
			return err
		}
		return os.Remove(path)
	})
}

// status tells the runtime whether pods can be set up: not before flanneld has written its lease.
func status(args *skel.CmdArgs) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	if _, err := readLease(conf.SubnetFile); err != nil {
		// CNI specification, STATUS: 50 = the plugin is not available
		return types.NewError(50, "flannel is not ready", err.Error())
	}
	return nil
}

// withSaved works on the configuration that ADD used: the lease may have changed, or be gone, since then.
func withSaved(args *skel.CmdArgs, do func(name string, data []byte, path string) error) error {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(conf.saved(args))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // never set up, or already taken down
	}
	if err != nil {
		return err
	}
	name, err := pluginType(data)
	if err != nil {
		return err
	}
	return do(name, data, conf.saved(args))
}

func (c *netConf) saved(args *skel.CmdArgs) string {
	return filepath.Join(c.DataDir, args.ContainerID)
}

func pluginType(data []byte) (string, error) {
	var conf types.PluginConf
	err := json.Unmarshal(data, &conf)
	if err == nil && conf.Type == "" {
		err = errors.New("delegate.type is empty")
	}
	return conf.Type, err
}
