//go:build netns

package bgp

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
)

const ms = time.Millisecond

// TestMain runs the tests in a network namespace of their own, as the node:
// goroutines of the runtime dial, which cannot be sent into another.
func TestMain(m *testing.M) {
	const marker = "HERALD_BGP_TEST_INSIDE"
	if os.Getenv(marker) == "" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), marker+"=1"))
			fmt.Fprintln(os.Stderr, "starting the tests anew:", err)
			os.Exit(1)
		}
		// Without the right to, nettest.Require says so.
		runtime.UnlockOSThread()
	}
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetUp(lo) // what needs it will say so
	}
	_ = flag.Set("test.parallel", "8") // what is parallel waits, most of the time
	os.Exit(m.Run())
}

// node returns the namespace that the tests run in.
func node(t testing.TB) *nettest.Namespace {
	t.Helper()
	nettest.Require(t)
	n := &nettest.Namespace{Name: "node"}
	var err error
	if n.Handle, err = netns.Get(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Handle.Close() })
	if n.Link, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Link.Close)
	n.Up(t, "lo")
	n.Sysctl(t, "net/ipv6/conf/all/accept_dad", "0")
	n.Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
	return n
}

var cables atomic.Int32

// A site is a router's namespace, on a cable to the node.
type site struct {
	*nettest.Namespace
	link string // of the node
}

// cable returns a new router's namespace, whose link is eth0.
func cable(t testing.TB, n *nettest.Namespace, ours, theirs []string) site {
	t.Helper()
	i := cables.Add(1)
	s := site{nettest.New(t, fmt.Sprintf("r%d", i)), fmt.Sprintf("to%d", i)}
	nettest.Cable(t, nettest.End{In: n, Link: s.link, Addrs: ours}, nettest.End{In: s.Namespace, Link: "eth0", Addrs: theirs})
	t.Cleanup(func() {
		if l, err := n.Link.LinkByName(s.link); err == nil {
			_ = n.Link.LinkDel(l)
		}
	})
	return s
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
