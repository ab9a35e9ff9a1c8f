package steer_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

func TestFakeKeepsThePromisesOfAKernel(t *testing.T) {
	kerneltest.Run(t, func(testing.TB) steer.Kernel { return steer.NewFake() })
}

func TestFakeFailsWhereItIsTold(t *testing.T) {
	ctx, full := context.Background(), errors.New("no buffer space")
	f := steer.NewFake()
	if err := f.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	good, bad := kerneltest.Addr(steer.Add, "192.0.2.1"), kerneltest.Addr(steer.Add, "192.0.2.2")
	f.Fail = func(c steer.Change) error {
		if c == bad {
			return full
		}
		return nil
	}
	err := f.Apply(ctx, []steer.Change{bad, good})
	if !errors.Is(err, full) {
		t.Errorf("Apply() = %v, want %v", err, full)
	}
	if len(f.Made) != 1 || f.Made[0] != good {
		t.Errorf("Made = %v, want only %v", f.Made, good)
	}
}

func TestFakeListsACopy(t *testing.T) {
	ctx := context.Background()
	f := steer.NewFake()
	if err := f.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := f.Table(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got.Addrs[netip.MustParseAddr("192.0.2.1")] = true
	if again, err := f.Table(ctx); err != nil || len(again.Addrs) != 0 {
		t.Errorf("Table() = %v, %v after an edit of an earlier listing", again, err)
	}
}

func TestFakeIsBrokenWhereItIsTold(t *testing.T) {
	ctx, dead := context.Background(), errors.New("no such device")
	f := steer.NewFake()
	f.Broken = dead
	if err := f.Prepare(ctx); !errors.Is(err, dead) {
		t.Errorf("Prepare() = %v, want %v", err, dead)
	}
	if _, err := f.Table(ctx); !errors.Is(err, dead) {
		t.Errorf("Table() = %v, want %v", err, dead)
	}
	if err := f.Apply(ctx, nil); err == nil {
		t.Error("Apply() without Prepare() succeeds")
	}
}

func TestCheck(t *testing.T) {
	server := func(virtual, scheduler string) steer.Change {
		return kerneltest.Server(steer.Add, virtual, scheduler, false)
	}
	set := func(virtual string, s steer.Server) steer.Change {
		return steer.Change{Verb: steer.Set, Virtual: kerneltest.Virtual(virtual), Server: s}
	}
	setAddr := kerneltest.Addr(steer.Set, "192.0.2.1")
	tests := []struct {
		name   string
		change steer.Change
		ok     bool
	}{
		{"a server may be added", server("192.0.2.1:80/tcp", "rr"), true},
		{"a server needs a scheduler", server("192.0.2.1:80/tcp", ""), false},
		{"a server that goes needs none", kerneltest.Server(steer.Del, "192.0.2.1:80/tcp", "", false), true},
		{"port 0 is no port", server("192.0.2.1:0/tcp", "rr"), false},
		{"icmp has no servers", server("192.0.2.1:80/icmp", "rr"), false},
		{"the unspecified address stands for node ports", server("0.0.0.0:30080/tcp", "rr"), true},
		{"no other tier has node ports", server("front 0.0.0.0:30080/tcp", "rr"), false},
		{"SNAT is for single servers", kerneltest.Server(steer.Add, "back 192.0.2.1:80/tcp", "rr", true), false},
		{"rr has no flags", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Flags: config.SchedulerPort}), false},
		{"mh has flags", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "mh", Flags: config.SchedulerPort}), true},
		{"affinity of a day is fine", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Affinity: 86400}), true},
		{"affinity of more than a day is refused", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Affinity: 86401}), false},
		{"sources in their canonical form are fine", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Sources: "10.0.0.0/8 192.0.2.0/24"}), true},
		{"nobody is fine", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Sources: steer.Nobody}), true},
		{"sources in another form are refused", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Sources: "192.0.2.0/24 10.0.0.0/8"}), false},
		{"sources of the other family are refused", set("192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Sources: "fd00::/8"}), false},
		{"sources are for single servers", set("front 192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Sources: steer.Nobody}), false},
		{"a back server may be direct", set("back 192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Direct: true}), true},
		{"a front server is not direct", set("front 192.0.2.1:80/tcp", steer.Server{Scheduler: "rr", Direct: true}), false},
		{"a node is an address", kerneltest.Node(steer.Add, "192.0.2.11"), true},
		{"a node cannot be set", kerneltest.Node(steer.Set, "192.0.2.11"), false},
		{"an IPv4 address in IPv6 clothes is refused", server("[::ffff:192.0.2.1]:80/tcp", "rr"), false},
		{"a zone is refused", server("[fe80::1%eth0]:80/tcp", "rr"), false},
		{"families must agree", kerneltest.Dest(steer.Add, "192.0.2.1:80/tcp", "[fd00::7]:80", 1), false},
		{"IPv6 to IPv6 is fine", kerneltest.Dest(steer.Add, "[2001:db8::1]:80/tcp", "[fd00::7]:80", 1), true},
		{"the greatest weight is 65535", kerneltest.Dest(steer.Add, "192.0.2.1:80/tcp", "10.0.0.7:80", 65535), true},
		{"70000 is too great", kerneltest.Dest(steer.Add, "192.0.2.1:80/tcp", "10.0.0.7:80", 70000), false},
		{"a weight is not negative", kerneltest.Dest(steer.Set, "192.0.2.1:80/tcp", "10.0.0.7:80", -1), false},
		{"a destination has a port", kerneltest.Dest(steer.Add, "192.0.2.1:80/tcp", "10.0.0.7:0", 1), false},
		{"a multicast address is no destination", kerneltest.Dest(steer.Add, "192.0.2.1:80/tcp", "224.0.0.9:80", 1), false},
		{"an address is added", kerneltest.Addr(steer.Add, "2001:db8::1"), true},
		{"an address cannot be set", setAddr, false},
		{"a prefix is added", kerneltest.Pods(steer.Add, "10.244.1.0/24"), true},
		{"a prefix has no bits beyond its length", kerneltest.Pods(steer.Add, "10.244.1.1/24"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := steer.Check(tt.change); (err == nil) != tt.ok {
				t.Errorf("Check(%s) = %v", tt.change, err)
			}
		})
	}
}
