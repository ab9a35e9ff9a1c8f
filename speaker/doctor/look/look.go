package look

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/doctor"
	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/steer/ipvs"
	"github.com/herald-lb/herald/speaker/steer/nft"
)

// schedulers are those that a pool can name.
var schedulers = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf"}

// Node collects what is to be known of this node, as seen from the network
// namespace of the calling thread.
func Node(ctx context.Context) (doctor.Facts, error) {
	var f doctor.Facts
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return f, fmt.Errorf("opening netlink: %w", err)
	}
	defer h.Close()
	// First what is there: a trial changes nothing here, but loads modules.
	for _, look := range []func() error{
		func() error { return settings(&f) },
		func() error { return links(&f, h) },
		func() error { return addrs(&f, h) },
		func() error { return routes(&f, h) },
		func() error {
			found, err := ipvs.FindForeign(h)
			f.Taken, f.Shared = found.Taken, found.Shared
			return err
		},
		func() error { return machine(&f) },
		func() error { return trial(ctx, &f) },
	} {
		if err := look(); err != nil {
			return f, err
		}
	}
	f.KubeProxy = kubeProxy(ctx, "127.0.0.1:10256", "127.0.0.1:10249")
	return f, nil
}

// trial has the kernel do what Herald needs of it.
func trial(ctx context.Context, f *doctor.Facts) error {
	why := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	f.NoIPVS = why(ipvs.Probe())
	tried, err := ipvs.Try(ctx, schedulers)
	if err != nil {
		return fmt.Errorf("trying IPVS: %w", err)
	}
	f.Schedulers, f.Tunnels = map[string]string{}, map[string]string{}
	for name, err := range tried.Schedulers {
		f.Schedulers[name] = why(err)
		if errors.Is(err, unix.ENOENT) {
			f.Schedulers[name] = "there is none of that name"
		}
	}
	for family, err := range tried.Tunnels {
		f.Tunnels[family] = why(err)
	}
	f.NoNFT = why(isolated(nft.Probe))
	return nil
}

// isolated runs probe in a network namespace of its own, on a thread that dies
// with its goroutine.
func isolated(probe func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("making a network namespace (it takes root): %w", err)
			return
		}
		done <- probe()
	}()
	return <-done
}

// settings reads sysctls. One that is not there is left out.
func settings(f *doctor.Facts) error {
	f.Settings = map[string]string{}
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if value, ok := sysctl(key); ok {
			f.Settings[key] = value
		}
	}
	return nil
}

// sysctl reads a setting of the thread's namespace.
func sysctl(key string) (value string, ok bool) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", key))
	return strings.TrimSpace(string(b)), err == nil
}

// links reads the links that the speaker could announce on.
func links(f *doctor.Facts, h *netlink.Handle) error {
	found, err := l2.Links(h)
	if err != nil {
		return err
	}
	all := filter("all")
	for _, l := range found {
		link, err := h.LinkByName(l.Name)
		if err != nil {
			return fmt.Errorf("looking at link %s: %w", l.Name, err)
		}
		f.Links = append(f.Links, doctor.Link{
			Name: l.Name, MTU: link.Attrs().MTU, Prefixes: l.Prefixes, RPFilter: max(all, filter(l.Name)),
		})
	}
	return nil
}

func filter(link string) int {
	value, _ := sysctl("net/ipv4/conf/" + link + "/rp_filter")
	n, _ := strconv.Atoi(value) // 0 for what is not there: there is none
	return n
}

// machine asks for the kernel's architecture.
func machine(f *doctor.Facts) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("asking for the machine: %w", err)
	}
	f.Machine = unix.ByteSliceToString(name.Machine[:])
	return nil
}

// kubeProxy asks where kube-proxy says that it is well, and in which mode it is,
// both as by default.
func kubeProxy(ctx context.Context, healthz, metrics string) doctor.KubeProxy {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var p doctor.KubeProxy
	if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", healthz); err == nil {
		p.There = true
		_ = conn.Close() // nothing was said
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/proxyMode", nil)
	if err != nil {
		return p
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return p
	}
	defer resp.Body.Close()
	mode, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	if err == nil && resp.StatusCode == http.StatusOK {
		p.There, p.Mode = true, strings.TrimSpace(string(mode))
	}
	return p
}
