package nft

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"

	"github.com/herald-lb/herald/speaker/steer"
)

// reachable returns the changes without the addresses that this node would
// take in and then drop, because it does not forward packets of their family,
// and an error for each that names the setting. Herald does not change the
// settings of a host; it just does not announce what it could not serve.
func (k *Kernel) reachable(changes []steer.Change) (good []steer.Change, errs []error) {
	off := map[family]error{}
	good = make([]steer.Change, 0, len(changes))
	for _, c := range changes {
		if c.Kind() != steer.KindAddr || c.Verb != steer.Add {
			good = append(good, c)
			continue
		}
		f := familyOf(c.Addr)
		if _, asked := off[f]; !asked {
			off[f] = k.forwards(f)
		}
		if off[f] != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c, off[f]))
			continue
		}
		good = append(good, c)
	}
	return good, errs
}

// forwards says why the node does not forward packets of f on any interface.
//
// That it does on all of them is asked first: it is so on most nodes, and each address
// waits for the answer. To list the interfaces takes longer than to steer.
func (k *Kernel) forwards(f family) error {
	remedy, dir := "net.ipv4.ip_forward", "/proc/sys/net/ipv4/conf"
	if f == v6 {
		remedy, dir = "net.ipv6.conf.all.forwarding", "/proc/sys/net/ipv6/conf"
	}
	on := false
	err := k.inside(func() error {
		if on = enabled(dir + "/all/forwarding"); on {
			return nil
		}
		files, err := filepath.Glob(dir + "/*/forwarding")
		for _, file := range files {
			on = on || enabled(file)
		}
		return err
	})
	if err == nil && !on {
		err = fmt.Errorf("forwarding to pods is off: set %s to 1 on this node", remedy)
	}
	return err
}

// enabled is whether file is the setting of an interface, and is on.
func enabled(file string) bool {
	b, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(b)) == "1" &&
		filepath.Base(filepath.Dir(file)) != "default"
}

// inside runs f in the network namespace of k.
func (k *Kernel) inside(f func() error) error {
	if k.options.NetNS == 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with f
		if err := netns.Set(netns.NsHandle(k.options.NetNS)); err != nil {
			done <- fmt.Errorf("entering the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
