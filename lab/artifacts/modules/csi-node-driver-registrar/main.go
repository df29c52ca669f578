// csi-node-driver-registrar tells the kubelet, over its plugin registration socket, where the node's CSI driver listens.
// It stands in for github.com/kubernetes-csi/node-driver-registrar, which is no Go module that a proxy serves,
// and takes those of its flags that the Cinder CSI manifests use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// driverTimeout is how long a driver may take to start and tell its name.
const driverTimeout = 2 * time.Minute

func main() {
	driver := flag.String("csi-address", "/csi/csi.sock", "the driver's socket, as this container sees it")
	endpoint := flag.String("kubelet-registration-path", "", "the driver's socket, as the kubelet sees it (required)")
	folder := flag.String("plugin-registration-path", "/registration", "the kubelet's plugins_registry, as this container sees it")
	// klog's verbosity: the upstream manifests set it, and there is nothing more to say.
	flag.Int("v", 0, "ignored")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *driver, *endpoint, *folder); err != nil {
		log.Fatal(err)
	}
}

// run serves the registration until ctx ends, or until the kubelet refuses the driver: the container then starts anew
// and registers again.
func run(ctx context.Context, driver, endpoint, folder string) error {
	if endpoint == "" {
		return errors.New("--kubelet-registration-path is required")
	}
	name, err := driverName(ctx, driver)
	if err != nil {
		return fmt.Errorf("no driver name from %s: %w", driver, err)
	}
	path := filepath.Join(folder, name+"-reg.sock")
	listener, err := listen(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	log.Printf("serving registration of %s on %s", name, path)
	return serve(ctx, listener, &registrar{name: name, endpoint: endpoint, refused: make(chan string, 1)})
}

// driverName asks the driver who it is, waiting for one that has not started yet.
func driverName(ctx context.Context, socket string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, driverTimeout)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	info, err := csi.NewIdentityClient(connection).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err == nil && info.GetName() == "" {
		err = errors.New("it is empty")
	}
	return info.GetName(), err
}

// listen takes the place of a socket that an earlier run left behind.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// The kubelet trusts whoever answers there, so nobody but root may ever connect or take over.
	previous := syscall.Umask(0o077)
	defer syscall.Umask(previous)
	return net.Listen("unix", path)
}

func serve(ctx context.Context, listener net.Listener, r *registrar) error {
	server := grpc.NewServer()
	defer server.Stop()
	registration.RegisterRegistrationServer(server, r)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case <-ctx.Done():
		return nil
	case reason := <-r.refused:
		return fmt.Errorf("the kubelet refused %s: %s", r.name, reason)
	case err := <-failed:
		return err
	}
}

// registrar answers the kubelet's plugin watcher.
type registrar struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
	refused        chan string
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              r.name,
		Endpoint:          r.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if status.PluginRegistered {
		log.Printf("the kubelet registered %s at %s", r.name, r.endpoint)
		return &registration.RegistrationStatusResponse{}, nil
	}
	select {
	case r.refused <- status.Error:
	default: // an earlier refusal already ends us
	}
	return &registration.RegistrationStatusResponse{}, nil
}
