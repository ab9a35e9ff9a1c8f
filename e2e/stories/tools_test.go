package stories

import (
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// heraldSays runs herald, which has to exit with code and to say all of want.
func heraldSays(t *testing.T, l *lab.Lab, stdin string, code int, want []string, args ...string) {
	t.Helper()
	out, got := l.Herald(stdin, args...)
	if got != code {
		t.Errorf("herald %v: exit code %d, want %d", args, got, code)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("herald %v does not say %q:\n%s", args, w, out)
		}
	}
}

// People ask before and after: the answers are those of the controller's own plan.
func TestPeopleAreToldWhyAndWhatWouldBe(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	says := func(stdin string, code int, want []string, args ...string) {
		t.Helper()
		heraldSays(t, l, stdin, code, want, args...)
	}
	web := l.Namespace + "/web"
	l.Apply(service{name: "web"}.String())
	waitVerdict(l, "web", refusal("NoPool"))
	says("", 0, []string{"no address", "NoPool"}, "explain", "service", web)

	lan := pool("lan", "192.168.50.200-192.168.50.201")
	says(lan, 0, []string{"assigns", web + ": 192.168.50.200"}, "plan", "-f", "-", "--fail-on-loss")
	if addr := l.Service("web").Status.LoadBalancer.Ingress; len(addr) != 0 {
		t.Errorf("to ask has assigned %v", addr)
	}
	l.Apply(lan)
	l.WaitAddress("web")
	says("", 0, []string{"192.168.50.200 from pool lan, which it holds", "lan (priority 0): can serve: 1 of 2"}, "explain", "service", web)
	says("", 0, []string{"192.168.50.200 to " + web, "2 in all, 1 assigned, 1 free"}, "explain", "pool", "lan")

	moved := strings.Replace(pool("lan", "192.168.50.210"), "spec: {", "spec: {onShrink: Reassign, ", 1)
	says(moved, 2, []string{"moves", "192.168.50.200 → 192.168.50.210"}, "plan", "-f", "-", "--fail-on-loss")
	says(pool("lan", "192.168.50.210"), 0, []string{"keeps", "no pool covers 192.168.50.200"}, "plan", "-f", "-", "--fail-on-loss")
	gone := strings.Replace(service{name: "web"}.String(), "{name: web}", "{name: web, namespace: "+l.Namespace+"}", 1)
	says(gone, 2, []string{"releases " + web + ": 192.168.50.200"}, "plan", "--delete", "--fail-on-loss", "-f", "-")
	says(pool("bad", "192.168.50.300"), 1, []string{"spec.addresses[0]"}, "plan", "-f", "-")
	says("", 1, []string{"there is no pool nowhere"}, "explain", "pool", "nowhere")
	waitFree(l, "lan", 1)
	says("", 0, []string{" leads", "1 served, 0 of them without an address", "lan   IPv4    2      1         1"}, "status")
}
