package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// socketName is where etcd listens, inside the lab's directory: no port that
// two labs could want at once.
const socketName = "etcd.sock"

// maxSocketPath is what sockaddr_un.sun_path holds, less the final NUL.
const maxSocketPath = 107

func etcdCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "etcd DIR",
		Short: "Run etcd alone, on the socket DIR/" + socketName,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := startEtcd(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			<-cmd.Context().Done()
			store.Close()
			return nil
		},
	}
}

// etcdURL is the address of the etcd that startEtcd runs for dir.
func etcdURL(dir string) url.URL {
	return url.URL{Scheme: "unix", Path: filepath.Join(dir, socketName)}
}

// startEtcd returns a running etcd of one member with its data in dir/etcd.
func startEtcd(ctx context.Context, dir string) (*embed.Etcd, error) {
	clients := etcdURL(dir)
	if len(clients.Path) > maxSocketPath {
		return nil, fmt.Errorf("starting etcd: %s is too long for a socket: choose a shorter directory", clients.Path)
	}
	// A lone member dials nobody: any free port will do.
	peers := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Dir = filepath.Join(dir, "etcd")
	config.LogLevel = "error"
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	store, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("starting etcd in %s: %w", config.Dir, err)
	}
	select {
	case <-store.Server.ReadyNotify():
		return store, nil
	case <-ctx.Done():
		closeEtcd(store)
		return nil, ctx.Err()
	}
}

// closeEtcd closes store, but does not wait long: a client that went away
// without a word would hold it for seconds, and its data is not kept.
func closeEtcd(store *embed.Etcd) {
	done := make(chan struct{})
	go func() {
		store.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(stopLimit):
	}
}
