package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type driver struct {
	csi.UnimplementedIdentityServer
}

func (driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: "cinder.csi.openstack.org"}, nil
}

func startDriver(t *testing.T, socket string) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, driver{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
}

// kubelet connects to the registration socket as the kubelet's plugin watcher does.
func kubelet(t *testing.T, socket string) registration.RegistrationClient {
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return registration.NewRegistrationClient(connection)
}

func TestRegistersAndEndsWhenRefused(t *testing.T) {
	folder := t.TempDir()
	socket := filepath.Join(folder, "csi.sock")
	startDriver(t, socket)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, socket, "/var/lib/kubelet/plugins/cinder/csi.sock", folder) }()

	client := kubelet(t, filepath.Join(folder, "cinder.csi.openstack.org-reg.sock"))
	info, err := client.GetInfo(ctx, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if info.Type != registration.CSIPlugin || info.Name != "cinder.csi.openstack.org" ||
		info.Endpoint != "/var/lib/kubelet/plugins/cinder/csi.sock" {
		t.Errorf("registers as %v", info)
	}
	if _, err := client.NotifyRegistrationStatus(ctx, &registration.RegistrationStatus{PluginRegistered: true}); err != nil {
		t.Error(err)
	}
	client.NotifyRegistrationStatus(ctx, &registration.RegistrationStatus{Error: "name taken"})
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "name taken") {
		t.Errorf("ended with %v, want the kubelet's reason", err)
	}
}

func TestNeedsTheKubeletsPath(t *testing.T) {
	if err := run(context.Background(), "csi.sock", "", t.TempDir()); err == nil {
		t.Error("runs without --kubelet-registration-path")
	}
}
