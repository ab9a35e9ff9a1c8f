//go:build netns

package nft

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

func TestKernelKeepsItsPromises(t *testing.T) {
	nettest.Require(t)
	kerneltest.Run(t, func(t testing.TB) steer.Kernel {
		k, _ := newKernel(t)
		return k
	})
}

// newKernel makes a kernel in a namespace of its own.
func newKernel(t testing.TB) (*Kernel, *nettest.Namespace) {
	t.Helper()
	n := nettest.New(t, "node")
	k := New(Options{NetNS: n.FD()})
	t.Cleanup(func() { k.Close() })
	return k, n
}

// ruleset lists all tables with their handles: what is made anew differs.
func ruleset(t testing.TB, n *nettest.Namespace) string {
	t.Helper()
	return n.Run(t, "nft", "--handle", "list", "ruleset")
}

func TestProbeLeavesNothing(t *testing.T) {
	nettest.Require(t)
	n := nettest.New(t, "node")
	if err := n.Do(Probe); err != nil {
		t.Errorf("Probe() = %v", err)
	}
	if rules := ruleset(t, n); rules != "" {
		t.Errorf("Probe() left\n%s", rules)
	}
}

// rows has a server of every kind, in both families.
func rows() []steer.Change {
	changes := []steer.Change{
		kerneltest.Pods(steer.Add, "10.244.1.0/24"), kerneltest.Pods(steer.Add, "fd10:244:1::/64"),
		kerneltest.Server(steer.Add, "192.0.2.1:9/udp", "rr", false), // refuses
	}
	for i, scheduler := range []string{"rr", "wrr", "sh", "mh", "lc"} {
		for _, virtual := range []string{"192.0.2.1:8%/tcp", "[2001:db8::1]:8%/tcp", "192.0.2.1:8%/sctp"} {
			virtual = strings.Replace(virtual, "%", string(rune('0'+i)), 1)
			target := "10.0.0.%:8080"
			if strings.HasPrefix(virtual, "[") {
				target = "[fd00::%]:8080"
			}
			changes = append(changes,
				kerneltest.Server(steer.Add, virtual, scheduler, i%2 == 0),
				kerneltest.Dest(steer.Add, virtual, strings.Replace(target, "%", "1", 1), 1),
				kerneltest.Dest(steer.Add, virtual, strings.Replace(target, "%", "2", 1), 0),
				kerneltest.Dest(steer.Add, virtual, strings.Replace(target, "%", "3", 1), 3))
		}
	}
	for virtual, server := range map[string]steer.Server{
		"192.0.2.1:90/tcp":     {Scheduler: "rr", Affinity: 600, Sources: "10.0.0.0/8 192.0.2.128/25"},
		"192.0.2.1:91/udp":     {Scheduler: "mh", Flags: config.SchedulerPort, Affinity: 10800, SNAT: true},
		"[2001:db8::1]:90/tcp": {Scheduler: "sh", Affinity: 600, Sources: "2001:db8::/32"},
		"[2001:db8::1]:91/udp": {Scheduler: "mh", Flags: config.SchedulerPort | config.SchedulerFallback, Affinity: 7},
		"0.0.0.0:30080/tcp":    {Scheduler: "rr", SNAT: true, Affinity: 86400},
		"[::]:30080/tcp":       {Scheduler: "mh", Flags: config.SchedulerPort, Sources: steer.Nobody},
	} {
		target := "10.0.0.%:8080"
		if strings.HasPrefix(virtual, "[") {
			target = "[fd00::%]:8080"
		}
		changes = append(changes, kerneltest.Set(steer.Add, virtual, server),
			kerneltest.Dest(steer.Add, virtual, strings.Replace(target, "%", "1", 1), 1),
			kerneltest.Dest(steer.Add, virtual, strings.Replace(target, "%", "2", 1), 3))
	}
	return append(changes, kerneltest.Addr(steer.Add, "192.0.2.1"), kerneltest.Addr(steer.Add, "2001:db8::1"))
}

func TestRestartAdoptsWithoutAWrite(t *testing.T) {
	nettest.Require(t)
	ctx := context.Background()
	k, n := newKernel(t)
	want := applied(t, k, rows())
	before := ruleset(t, n)
	k.Close()

	k = New(Options{NetNS: n.FD()})
	defer k.Close()
	if err := k.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := k.Table(ctx); err != nil || !same(got, want) {
		t.Errorf("Table() = %v, %v, want %v", got, err, want)
	}
	if after := ruleset(t, n); after != before {
		t.Errorf("the ruleset is now\n%s\nwas\n%s", after, before)
	}
}

// applied prepares k, makes changes, and returns what k then lists.
func applied(t testing.TB, k *Kernel, changes []steer.Change) steer.Table {
	t.Helper()
	ctx := context.Background()
	if err := k.Prepare(ctx); err != nil {
		t.Fatalf("Prepare() = %v", err)
	}
	if err := k.Apply(ctx, changes); err != nil {
		t.Fatalf("Apply() = %v", err)
	}
	table, err := k.Table(ctx)
	if err != nil {
		t.Fatalf("Table() = %v", err)
	}
	return table
}

// TestRepair lets somebody change the table. After Prepare and one more
// difference applied, as in a pass, all is as it was.
func TestRepair(t *testing.T) {
	nettest.Require(t)
	tests := []struct{ name, script string }{
		{"the rules are flushed", "flush table inet herald"},
		{"the rules of one chain are flushed", "flush chain inet herald prerouting"},
		{"a rule is added", "insert rule inet herald v4-service drop"},
		{"a rule is added to a helper", "insert rule inet herald v4-source-4 drop"},
		{"a chain is added", "add chain inet herald mine; add rule inet herald mine drop"},
		{"a chain is added that elements go to", "add chain inet herald mine; " +
			"add element inet herald servers4 { 192.0.2.9 . tcp . 80 : goto mine }"},
		{"a hook is gone", "flush chain inet herald output; delete chain inet herald output"},
		{"a hook has another priority", "flush chain inet herald output; delete chain inet herald output; " +
			"add chain inet herald output { type nat hook output priority 5; }"},
		{"the policy is to drop", "add chain inet herald prerouting { policy drop; }"},
		{"the table is gone", "delete table inet herald"},
		{"another table has taken the name", "delete table inet herald; add table inet herald; " +
			"add set inet herald addrs4 { type inet_service; }; add chain inet herald mine"},
		{"a set is added", "add set inet herald mine { type ipv4_addr; }"},
		{"the servers are flushed", "flush map inet herald servers4"},
		{"the slots are flushed", "flush map inet herald ends6"},
		{"the prefixes are flushed", "flush set inet herald pods4"},
		{"who may connect is flushed", "flush set inet herald sources4"},
		{"nobody is kept out", "flush set inet herald limited6; flush set inet herald sources6"},
		{"somebody else is let in", "add element inet herald sources4 { 192.0.2.1 . tcp . 90 . 172.16.0.0/12 }"},
		{"the ids are flushed", "flush map inet herald ids4; flush map inet herald live6"},
		{"an id is another's", "delete element inet herald ids4 { 192.0.2.1 . tcp . 90 . 0 }; " +
			"add element inet herald ids4 { 192.0.2.1 . tcp . 90 . 0 : 7 }"},
		{"nothing is remembered", "flush map inet herald affinity4"},
		{"an address is added", "add element inet herald addrs4 { 192.0.2.77 }"},
		{"a server goes elsewhere", "delete element inet herald servers4 { 192.0.2.1 . tcp . 80 }; " +
			"add element inet herald servers4 { 192.0.2.1 . tcp . 80 : drop }"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			k, n := newKernel(t)
			want := applied(t, k, rows())
			before := n.Run(t, "nft", "--stateless", "list", "ruleset")
			n.Run(t, "nft", tt.script)
			if err := k.Prepare(ctx); err != nil {
				t.Fatalf("Prepare() = %v", err)
			}
			have, err := k.Table(ctx)
			if err != nil {
				t.Fatalf("Table() = %v", err)
			}
			join, leave := steer.Diff(have, want)
			if err := k.Apply(ctx, append(join, leave...)); err != nil {
				t.Errorf("Apply() = %v", err)
			}
			if err := k.Prepare(ctx); err != nil {
				t.Fatalf("Prepare() once more = %v", err)
			}
			if got, err := k.Table(ctx); err != nil || !same(got, want) {
				t.Errorf("Table() = %v, %v, want %v", got, err, want)
			}
			if after := n.Run(t, "nft", "--stateless", "list", "ruleset"); sortLines(after) != sortLines(before) {
				t.Errorf("the ruleset is now\n%s\nwas\n%s", after, before)
			}
		})
	}
}

// sortLines makes listings comparable: neither elements nor chains have an
// order of their own.
func sortLines(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("\n\t,{}=", r) })
	for i := range lines {
		lines[i] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(lines[i]), "elements"))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestOneChangeThatTheKernelRefusesStopsNoOther(t *testing.T) {
	nettest.Require(t)
	ctx := context.Background()
	k, n := newKernel(t)
	applied(t, k, nil)
	// What stands in the way here is no row, so only the kernel knows.
	n.Run(t, "nft", "add element inet herald pods4 { 10.0.0.0/8 }")
	err := k.Apply(ctx, rows())
	if err == nil || !strings.HasPrefix(err.Error(), "add pods 10.244.1.0/24: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Apply() = %v, want an error for the prefix alone", err)
	}
	want := steer.NewTable()
	for _, c := range rows()[1:] {
		if err := kerneltest.Model(want, c); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := k.Table(ctx); err != nil || !same(got, want) {
		t.Errorf("Table() = %v, %v, want %v", got, err, want)
	}
}

func TestElementsThatSomebodyDeletedDoNotStopAChange(t *testing.T) {
	nettest.Require(t)
	k, n := newKernel(t)
	applied(t, k, rows())
	n.Run(t, "nft", "flush map inet herald ends4; flush set inet herald idle4")
	err := k.Apply(context.Background(), []steer.Change{
		kerneltest.Dest(steer.Del, "192.0.2.1:80/tcp", "10.0.0.1:8080", 0),
		kerneltest.Server(steer.Del, "192.0.2.1:81/tcp", "", false)})
	if !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), ":81/tcp") {
		t.Errorf("Apply() = %v, want only that the destination is not there", err)
	}
}

func TestNoAddressWithoutForwarding(t *testing.T) {
	nettest.Require(t)
	tests := []struct{ setting, one, addr, other string }{
		{"net/ipv4/ip_forward", "net/ipv4/conf/lo/forwarding", "192.0.2.1", "2001:db8::1"},
		{"net/ipv6/conf/all/forwarding", "net/ipv6/conf/lo/forwarding", "2001:db8::1", "192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.setting, func(t *testing.T) {
			ctx := context.Background()
			k, n := newKernel(t)
			applied(t, k, nil)
			n.Sysctl(t, tt.setting, "0")
			add := kerneltest.Addr(steer.Add, tt.addr)
			err := k.Apply(ctx, []steer.Change{add, kerneltest.Addr(steer.Add, tt.other)})
			if name := strings.ReplaceAll(tt.setting, "/", "."); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("Apply() = %v, want an error that names %s", err, name)
			}
			if got, err := k.Table(ctx); err != nil || len(got.Addrs) != 1 {
				t.Errorf("Table() = %v, %v, want only %s", got, err, tt.other)
			}
			n.Sysctl(t, tt.one, "1")
			if err := k.Apply(ctx, []steer.Change{add}); err != nil {
				t.Errorf("Apply() with one interface that forwards = %v", err)
			}
			n.Sysctl(t, tt.setting, "1")
			if err := k.Apply(ctx, []steer.Change{kerneltest.Addr(steer.Del, tt.addr), add}); err != nil {
				t.Errorf("Apply() with the setting on = %v", err)
			}
		})
	}
}

func TestForeignTablesAreNotTouched(t *testing.T) {
	nettest.Require(t)
	ctx := context.Background()
	k, n := newKernel(t)
	n.Run(t, "nft", `
		table inet herald2 { set addrs4 { type ipv4_addr; elements = { 192.0.2.1 }; }; chain refuse { drop; }; }
		table ip herald { map servers4 { type ipv4_addr : verdict; elements = { 192.0.2.1 : drop }; }; }
		table ip kube-proxy { chain nat { type nat hook prerouting priority dstnat; ip daddr 10.96.0.1 dnat to 10.0.0.1; }; }
		table inet firewall { chain in { type filter hook input priority 0; policy drop; ct state established accept; }; }`)
	before := ruleset(t, n)
	applied(t, k, rows())
	if err := k.Apply(ctx, []steer.Change{kerneltest.Server(steer.Del, "192.0.2.1:80/tcp", "", false)}); err != nil {
		t.Fatal(err)
	}
	n.Run(t, "nft", "flush table inet herald")
	if err := k.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if after := ruleset(t, n); after != before {
		t.Errorf("the ruleset is now\n%s\nwas\n%s", after, before)
	}
}

func TestNothingIsLeftWhenAllRowsAreGone(t *testing.T) {
	nettest.Require(t)
	ctx := context.Background()
	k, n := newKernel(t)
	applied(t, k, nil)
	empty := n.Run(t, "nft", "list", "ruleset")
	table := applied(t, k, rows())
	_, leave := steer.Diff(table, steer.NewTable())
	if err := k.Apply(ctx, leave); err != nil {
		t.Fatal(err)
	}
	if left := n.Run(t, "nft", "list", "ruleset"); left != empty {
		t.Errorf("left is\n%s\nat first there was\n%s", left, empty)
	}
}

func TestCancelledPassDoesNothing(t *testing.T) {
	nettest.Require(t)
	k, n := newKernel(t)
	applied(t, k, nil)
	before := ruleset(t, n)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := k.Apply(ctx, rows()); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply() = %v, want %v", err, context.Canceled)
	}
	if after := ruleset(t, n); after != before {
		t.Errorf("the ruleset is now\n%s", after)
	}
}
