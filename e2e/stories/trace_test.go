package stories

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// traced asks herald trace, which has to succeed.
func traced(t *testing.T, l *lab.Lab, client, virtual string) string {
	t.Helper()
	out, code := l.Herald("", "trace", client, virtual)
	if code != 0 {
		t.Errorf("herald trace %s %s: exit code %d\n%s", client, virtual, code, out)
	}
	return out
}

func TestTraceNamesThePodThatAnswers(t *testing.T) {
	if !lab.InGuest() {
		t.Skip("only of IPVS it can be told which pod it chooses")
	}
	l := lab.Start(t, lab.Options{})
	pods := map[string]netip.Addr{}
	for i, node := range []int{1, 1, 2, 3, 3, 3} {
		p := l.Pod(node, fmt.Sprintf("web-%d", i), lab.PodSpec{Labels: lab.App("web")})
		pods[p.Name] = p.Addr4
	}
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	askAll(t, l.Client, url(addr), "web-0", "web-1", "web-2", "web-3", "web-4", "web-5")
	for i := range 40 {
		client, from := "192.168.50.100", l.Client
		if i%4 == 0 {
			client, from = "198.51.100.7", l.Far
		}
		flow := netip.AddrPortFrom(netip.MustParseAddr(client), uint16(20000+i))
		body, err := from.GetFrom(flow, url(addr))
		if err != nil {
			t.Fatalf("asking %s from %s: %v", url(addr), flow, err)
		}
		said := traced(t, l, flow.String(), netip.AddrPortFrom(addr, 80).String())
		lines := strings.Split(strings.TrimSpace(said), "\n")
		if last := lines[len(lines)-1]; !strings.Contains(last, " "+pods[lab.PodOf(body)].String()+":8080") || strings.Contains(last, "one of") {
			t.Errorf("%s is answered by %s, and herald trace says\n%s", flow, body, said)
		}
	}
}

func TestTraceSaysWhatCannotBeTold(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(objects(
		service{name: "turns", app: "web", meta: "annotations: {herald-lb.io/scheduler: rr}"},
		service{name: "some", app: "web", more: "loadBalancerSourceRanges: [198.51.100.0/24]"},
		service{name: "empty"},
	))
	turns, some, empty := l.WaitAddress("turns"), l.WaitAddress("some"), l.WaitAddress("empty")
	waitAnswer(t, l, l.Client, url(turns))
	waitAnswer(t, l, l.Far, url(some))
	at := func(a netip.Addr) string { return netip.AddrPortFrom(a, 80).String() }
	for _, tt := range []struct {
		client, virtual string
		code            int
		want            string
	}{
		{"192.168.50.100:40000", at(turns), 0, "rr takes turns: one of "},
		{"192.168.50.100:40000", at(some), 0, "refused: only clients from 198.51.100.0/24 may connect"},
		{"192.168.50.100:40000", at(empty), 1, "announced by nobody"},
		{"192.168.50.11:40000", at(empty), 0, "refused: no endpoint takes the connection"},
		{"192.168.50.100:40000", netip.AddrPortFrom(turns, 81).String(), 1, "has no port 81/tcp, but 80/tcp"},
		{"192.168.50.100:40000", "192.168.50.215:80", 1, "belongs to no Service"},
	} {
		out, code := l.Herald("", "trace", tt.client, tt.virtual)
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("herald trace %s %s: exit code %d; want %d and %q\n%s", tt.client, tt.virtual, code, tt.code, tt.want, out)
		}
	}
}
