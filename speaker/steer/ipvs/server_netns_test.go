//go:build netns

package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

func TestSchedulers(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx := context.Background()
	k := newKernel(t, nettest.New(t, "node"))
	if err := k.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	want := steer.NewTable()
	var changes []steer.Change
	for i, s := range strings.Fields("rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf") {
		c := steer.Change{Verb: steer.Add, Server: steer.Server{Scheduler: s}, Virtual: kerneltest.Virtual("192.0.2.1:80/tcp")}
		c.Virtual.Addr = netip.AddrPortFrom(c.Virtual.Addr.Addr(), uint16(80+i))
		changes, want.Servers[c.Virtual] = append(changes, c), c.Server
	}
	if err := k.Apply(ctx, changes); err != nil {
		t.Fatalf("Apply() = %v", err)
	}
	(&lab{k: k}).holds(t, want)

	for _, verb := range []steer.Verb{steer.Add, steer.Set} {
		bad := changes[0]
		bad.Verb, bad.Server.Scheduler = verb, "nope"
		if verb == steer.Add {
			bad.Virtual = kerneltest.Virtual("192.0.2.1:9/tcp")
		}
		err := k.Apply(ctx, []steer.Change{bad})
		if err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "ip_vs_nope") {
			t.Errorf("Apply(%s) = %v, want the module named", bad, err)
		}
	}
	(&lab{k: k}).holds(t, want)
}

func TestWhatSomebodySetOnAServerIsSeenAndSetRight(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx := context.Background()
	l := &lab{k: newKernel(t, nettest.New(t, "node"))}
	if err := l.k.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	v := kerneltest.Virtual("192.0.2.1:80/tcp")
	d := steer.Dest{Virtual: v, Real: netip.MustParseAddrPort("10.0.0.7:8080")}
	want := steer.NewTable()
	want.Servers[v], want.Dests[d] = steer.Server{Scheduler: "mh"}, 1
	l.settle(t, want)

	changed := service(v, want.Servers[v])
	changed.Flags = flagPort
	for _, err := range l.k.spaces[single.of].wire.do(ctx, []command{{op: opSetService, svc: changed}}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	have, err := l.k.Table(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if join, _ := steer.Diff(have, want); len(join) != 1 {
		t.Errorf("Diff() after an edit of the flags = %v, want one change", join)
	}
	l.settle(t, want)
}
