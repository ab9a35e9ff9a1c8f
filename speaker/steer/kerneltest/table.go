package kerneltest

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/speaker/steer"
)

// Set is the change of all that can be set on a virtual server.
func Set(verb steer.Verb, virtual string, s steer.Server) steer.Change {
	return steer.Change{Verb: verb, Virtual: Virtual(virtual), Server: s}
}

const (
	web  = "192.0.2.1:80/tcp"
	dns  = "192.0.2.1:53/udp"
	web6 = "[2001:db8::1]:80/tcp"
)

// A row is a promise.
type row struct {
	name   string
	have   []steer.Change
	change steer.Change
	err    error
}

// tests are promises: after have is applied, change answers err and the
// kernel then lists what the model makes of both.
var tests = []row{
	{"an added server is listed",
		nil, Server(steer.Add, web, "rr", false), nil},
	{"a server keeps its scheduler and that it wants SNAT",
		nil, Server(steer.Add, web, "wrr", true), nil},
	{"one address has servers on several ports and protocols",
		[]steer.Change{Server(steer.Add, web, "rr", true)},
		Server(steer.Add, dns, "wrr", false), nil},
	{"the same port may be served over tcp, udp and sctp",
		[]steer.Change{Server(steer.Add, "192.0.2.1:80/udp", "rr", true), Server(steer.Add, "192.0.2.1:80/sctp", "rr", false)},
		Server(steer.Add, web, "wrr", false), nil},
	{"an IPv6 server is listed",
		nil, Server(steer.Add, web6, "rr", true), nil},
	{"adding a server twice is refused",
		[]steer.Change{Server(steer.Add, web, "rr", false)},
		Server(steer.Add, web, "rr", true), os.ErrExist},
	{"setting a server changes the scheduler and keeps its destinations",
		[]steer.Change{Server(steer.Add, web, "rr", false), Dest(steer.Add, web, "10.0.0.7:8080", 3)},
		Server(steer.Set, web, "wrr", false), nil},
	{"setting a server begins SNAT",
		[]steer.Change{Server(steer.Add, web, "rr", false), Dest(steer.Add, web, "10.0.0.7:8080", 1)},
		Server(steer.Set, web, "rr", true), nil},
	{"setting a server ends SNAT",
		[]steer.Change{Server(steer.Add, web, "rr", true)},
		Server(steer.Set, web, "rr", false), nil},
	{"a server keeps the flags of its scheduler",
		nil, Set(steer.Add, web, steer.Server{Scheduler: "mh", Flags: config.SchedulerPort | config.SchedulerFallback}), nil},
	{"the flags of a scheduler can be set, each for itself",
		[]steer.Change{Set(steer.Add, web, steer.Server{Scheduler: "sh"})},
		Set(steer.Set, web, steer.Server{Scheduler: "sh", Flags: config.SchedulerFallback}), nil},
	{"a server keeps its affinity",
		nil, Set(steer.Add, web, steer.Server{Scheduler: "rr", Affinity: 600, SNAT: true}), nil},
	{"an IPv6 server keeps its affinity",
		nil, Set(steer.Add, web6, steer.Server{Scheduler: "wrr", Affinity: 86400}), nil},
	{"setting a server begins affinity",
		[]steer.Change{Server(steer.Add, web, "rr", true), Dest(steer.Add, web, "10.0.0.7:8080", 1)},
		Set(steer.Set, web, steer.Server{Scheduler: "rr", Affinity: 10800, SNAT: true}), nil},
	{"setting a server ends affinity",
		[]steer.Change{Set(steer.Add, web, steer.Server{Scheduler: "rr", Affinity: 600})},
		Server(steer.Set, web, "rr", false), nil},
	{"a server keeps its sources",
		nil, Set(steer.Add, web, steer.Server{Scheduler: "rr", Sources: "10.0.0.0/8 192.0.2.0/25 192.0.2.200/32", SNAT: true}), nil},
	{"an IPv6 server keeps its sources",
		nil, Set(steer.Add, web6, steer.Server{Scheduler: "rr", Sources: "2001:db8::/32 fd00::/8"}), nil},
	{"a server that lets nobody in stays closed",
		nil, Set(steer.Add, web, steer.Server{Scheduler: "rr", Sources: steer.Nobody}), nil},
	{"everybody written out is something else than nothing",
		nil, Set(steer.Add, web, steer.Server{Scheduler: "rr", Sources: "0.0.0.0/0"}), nil},
	{"setting a server changes its sources, and nobody else's",
		[]steer.Change{
			Set(steer.Add, web, steer.Server{Scheduler: "rr", Sources: "10.0.0.0/8 192.0.2.0/25"}),
			Set(steer.Add, dns, steer.Server{Scheduler: "rr", Sources: "10.0.0.0/8"})},
		Set(steer.Set, web, steer.Server{Scheduler: "rr", Sources: "10.0.0.0/9 192.0.2.0/25"}), nil},
	{"setting a server opens it to everybody",
		[]steer.Change{Set(steer.Add, web, steer.Server{Scheduler: "rr", Sources: "10.0.0.0/8"})},
		Server(steer.Set, web, "rr", false), nil},
	{"a deleted server takes its sources along",
		[]steer.Change{Set(steer.Add, web, steer.Server{Scheduler: "rr", Sources: "10.0.0.0/8"})},
		Server(steer.Del, web, "", false), nil},
	{"setting what is not there is refused",
		nil, Server(steer.Set, web, "rr", false), os.ErrNotExist},
	{"a deleted server is gone",
		[]steer.Change{Server(steer.Add, web, "rr", true)},
		Server(steer.Del, web, "", false), nil},
	{"a deleted server takes its destinations along, and no others",
		[]steer.Change{
			Server(steer.Add, web, "rr", true), Dest(steer.Add, web, "10.0.0.7:8080", 1),
			Server(steer.Add, dns, "rr", true), Dest(steer.Add, dns, "10.0.0.7:53", 1)},
		Server(steer.Del, web, "", false), nil},
	{"deleting a server that is not there is refused",
		[]steer.Change{Server(steer.Add, dns, "rr", true)},
		Server(steer.Del, web, "", false), os.ErrNotExist},

	{"a destination keeps its weight",
		[]steer.Change{Server(steer.Add, web, "wrr", false)},
		Dest(steer.Add, web, "10.0.0.7:8080", 5), nil},
	{"one address may be a destination on several ports",
		[]steer.Change{Server(steer.Add, web, "rr", false), Dest(steer.Add, web, "10.0.0.7:8080", 1)},
		Dest(steer.Add, web, "10.0.0.7:8081", 1), nil},
	{"a destination of two servers is two rows",
		[]steer.Change{Server(steer.Add, web, "rr", false), Server(steer.Add, dns, "rr", false), Dest(steer.Add, web, "10.0.0.7:53", 1)},
		Dest(steer.Add, dns, "10.0.0.7:53", 2), nil},
	{"an IPv6 destination is listed",
		[]steer.Change{Server(steer.Add, web6, "rr", false)},
		Dest(steer.Add, web6, "[fd00::7]:8080", 1), nil},
	{"weight 0 is kept",
		[]steer.Change{Server(steer.Add, web, "rr", false)},
		Dest(steer.Add, web, "10.0.0.7:8080", 0), nil},
	{"weight 65535 is kept",
		[]steer.Change{Server(steer.Add, web, "rr", false)},
		Dest(steer.Add, web, "10.0.0.7:8080", 65535), nil},
	{"a destination is set to weight 0 while it drains",
		[]steer.Change{Server(steer.Add, web, "rr", false), Dest(steer.Add, web, "10.0.0.7:8080", 1), Dest(steer.Add, web, "10.0.0.8:8080", 1)},
		Dest(steer.Set, web, "10.0.0.7:8080", 0), nil},
	{"a destination is set back from weight 0",
		[]steer.Change{Server(steer.Add, web, "rr", false), Dest(steer.Add, web, "10.0.0.7:8080", 0)},
		Dest(steer.Set, web, "10.0.0.7:8080", 2), nil},
	{"adding a destination twice is refused, whatever its weight",
		[]steer.Change{Server(steer.Add, web, "rr", false), Dest(steer.Add, web, "10.0.0.7:8080", 1)},
		Dest(steer.Add, web, "10.0.0.7:8080", 2), os.ErrExist},
	{"setting a destination that is not there is refused",
		[]steer.Change{Server(steer.Add, web, "rr", false)},
		Dest(steer.Set, web, "10.0.0.7:8080", 1), os.ErrNotExist},
	{"a deleted destination is gone, the others stay",
		[]steer.Change{Server(steer.Add, web, "rr", false),
			Dest(steer.Add, web, "10.0.0.7:8080", 1), Dest(steer.Add, web, "10.0.0.8:8080", 2), Dest(steer.Add, web, "10.0.0.9:8080", 3)},
		Dest(steer.Del, web, "10.0.0.7:8080", 0), nil},
	{"the last destination can be deleted",
		[]steer.Change{Server(steer.Add, web, "rr", false), Dest(steer.Add, web, "10.0.0.7:8080", 1)},
		Dest(steer.Del, web, "10.0.0.7:8080", 0), nil},
	{"deleting a destination that is not there is refused",
		[]steer.Change{Server(steer.Add, web, "rr", false)},
		Dest(steer.Del, web, "10.0.0.7:8080", 0), os.ErrNotExist},
	{"a destination needs its server",
		nil, Dest(steer.Add, web, "10.0.0.7:8080", 1), os.ErrNotExist},

	{"an address is listed",
		nil, Addr(steer.Add, "192.0.2.1"), nil},
	{"an IPv6 address is listed",
		[]steer.Change{Addr(steer.Add, "192.0.2.1")},
		Addr(steer.Add, "2001:db8::1"), nil},
	{"adding an address twice is refused",
		[]steer.Change{Addr(steer.Add, "192.0.2.1")},
		Addr(steer.Add, "192.0.2.1"), os.ErrExist},
	{"a deleted address is gone",
		[]steer.Change{Addr(steer.Add, "192.0.2.1"), Addr(steer.Add, "192.0.2.2")},
		Addr(steer.Del, "192.0.2.1"), nil},
	{"deleting an address that is not there is refused",
		nil, Addr(steer.Del, "192.0.2.1"), os.ErrNotExist},

	{"a prefix of pods is listed",
		nil, Pods(steer.Add, "10.244.1.0/24"), nil},
	{"neighbouring prefixes stay apart",
		[]steer.Change{Pods(steer.Add, "10.244.0.0/24")},
		Pods(steer.Add, "10.244.1.0/24"), nil},
	{"an IPv6 prefix of pods is listed",
		nil, Pods(steer.Add, "fd10:244:1::/64"), nil},
	{"the prefix of one address is listed",
		[]steer.Change{Pods(steer.Add, "fd10:244:1::5/128")},
		Pods(steer.Add, "10.244.1.5/32"), nil},
	{"the last prefix that there is is listed",
		nil, Pods(steer.Add, "255.255.255.0/24"), nil},
	{"adding a prefix twice is refused",
		[]steer.Change{Pods(steer.Add, "10.244.1.0/24")},
		Pods(steer.Add, "10.244.1.0/24"), os.ErrExist},
	{"a deleted prefix is gone",
		[]steer.Change{Pods(steer.Add, "10.244.1.0/24"), Pods(steer.Add, "10.244.2.0/24")},
		Pods(steer.Del, "10.244.1.0/24"), nil},
	{"deleting a prefix that is not there is refused",
		nil, Pods(steer.Del, "10.244.1.0/24"), os.ErrNotExist},
}

const (
	front = "front 192.0.2.1:80/tcp"
	back  = "back 192.0.2.1:80/tcp"
	port  = "0.0.0.0:30080/tcp"
)

// tierTests are promises of kernels that have tiers.
var tierTests = []row{
	{"a server of each tier is one for itself",
		[]steer.Change{Server(steer.Add, web, "rr", true), Server(steer.Add, back, "rr", false)},
		Set(steer.Add, front, steer.Server{Scheduler: "mh", Flags: config.SchedulerPort | config.SchedulerFallback}), nil},
	{"an IPv6 server of each tier is one for itself",
		[]steer.Change{Server(steer.Add, "back "+web6, "wrr", false), Server(steer.Add, web6, "rr", true)},
		Server(steer.Add, "front "+web6, "rr", false), nil},
	{"a node is a destination of the front, with its weight",
		[]steer.Change{Server(steer.Add, front, "mh", false)},
		Dest(steer.Add, front, "192.168.0.11:80", 3), nil},
	{"a node is added to the front with weight 0",
		[]steer.Change{Server(steer.Add, front, "mh", false)},
		Dest(steer.Add, front, "192.168.0.11:80", 0), nil},
	{"a node of the front is set to weight 0",
		[]steer.Change{Server(steer.Add, front, "mh", false), Dest(steer.Add, front, "192.168.0.11:80", 3)},
		Dest(steer.Set, front, "192.168.0.11:80", 0), nil},
	{"an endpoint is a destination of the back, and of nothing else",
		[]steer.Change{Server(steer.Add, web, "rr", true), Server(steer.Add, back, "rr", false)},
		Dest(steer.Add, back, "10.0.0.7:8080", 1), nil},
	{"a back server keeps that it is direct",
		nil, Set(steer.Add, back, steer.Server{Scheduler: "rr", Direct: true}), nil},
	{"setting a back server makes it direct",
		[]steer.Change{Server(steer.Add, back, "rr", false), Dest(steer.Add, back, "10.0.0.7:8080", 1)},
		Set(steer.Set, back, steer.Server{Scheduler: "rr", Direct: true}), nil},
	{"setting a back server makes it wait behind the tunnel",
		[]steer.Change{Set(steer.Add, back, steer.Server{Scheduler: "rr", Direct: true})},
		Server(steer.Set, back, "rr", false), nil},
	{"a deleted front leaves the other tiers",
		[]steer.Change{Server(steer.Add, web, "rr", true), Server(steer.Add, back, "rr", false), Server(steer.Add, front, "mh", false), Dest(steer.Add, front, "192.168.0.11:80", 1)},
		Server(steer.Del, front, "", false), nil},
	{"adding a front twice is refused",
		[]steer.Change{Server(steer.Add, front, "mh", false)},
		Server(steer.Add, front, "rr", false), os.ErrExist},
	{"deleting a front that is not there is refused",
		[]steer.Change{Server(steer.Add, web, "rr", false)},
		Server(steer.Del, front, "", false), os.ErrNotExist},
	{"a node port has a server",
		nil, Server(steer.Add, port, "rr", true), nil},
	{"an IPv6 node port has a server",
		[]steer.Change{Server(steer.Add, port, "rr", true)},
		Server(steer.Add, "[::]:30080/tcp", "rr", true), nil},
	{"a deleted node port is gone",
		[]steer.Change{Server(steer.Add, port, "rr", true), Dest(steer.Add, port, "10.0.0.7:8080", 1)},
		Server(steer.Del, port, "", false), nil},
	{"a node is listed",
		nil, Node(steer.Add, "192.168.0.11"), nil},
	{"an IPv6 node is listed",
		[]steer.Change{Node(steer.Add, "192.168.0.11")},
		Node(steer.Add, "2001:db8:1::11"), nil},
	{"adding a node twice is refused",
		[]steer.Change{Node(steer.Add, "192.168.0.11")},
		Node(steer.Add, "192.168.0.11"), os.ErrExist},
	{"a deleted node is gone",
		[]steer.Change{Node(steer.Add, "192.168.0.11"), Node(steer.Add, "192.168.0.12")},
		Node(steer.Del, "192.168.0.11"), nil},
	{"deleting a node that is not there is refused",
		nil, Node(steer.Del, "192.168.0.11"), os.ErrNotExist},
}

// testTable plays every row on one kernel, which each has to leave empty.
func testTable(t *testing.T, newKernel New) {
	k := prepared(t, newKernel)
	rows := tests
	if k.Self().Tiers {
		rows = slices.Concat(tests, tierTests)
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) { tt.play(t, k) })
	}
}

func (tt row) play(t *testing.T, k steer.Kernel) {
	ctx := context.Background()
	if err := k.Apply(ctx, tt.have); err != nil {
		t.Fatalf("Apply() of what it starts from = %v", err)
	}
	want := tableOf(t, tt.have...)
	expect(t, k, want)

	err := k.Apply(ctx, []steer.Change{tt.change})
	if !is(err, tt.err) {
		t.Errorf("Apply(%s) = %v, want %v", tt.change, err, tt.err)
	}
	if err != nil && !names(err, []steer.Change{tt.change}, nil) {
		t.Errorf("error %q does not name %q", err, tt.change)
	}
	if promised := Model(want, tt.change); !is(promised, tt.err) {
		t.Errorf("the model answers %v, want %v", promised, tt.err)
	}
	expect(t, k, want)
	if err := k.Apply(ctx, emptying(want)); err != nil {
		t.Fatalf("Apply() that empties = %v", err)
	}
	expect(t, k, steer.NewTable())
}
