package stories

import (
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

func TestTheDoctorSaysWhatIsWrongWithANode(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	waitAnswer(t, l, l.Client, url(l.WaitAddress("web")))
	n := l.Node(2)
	before, err := n.Kernel()
	if err != nil {
		t.Fatal(err)
	}
	if out, code := n.Herald("doctor"); code != 0 || hasIPVS() && strings.Contains(out, "WARN ") {
		t.Errorf("of a node that is well the doctor says, with exit code %d:\n%s", code, out)
	}
	if after, err := n.Kernel(); err != nil || after != before {
		t.Errorf("the doctor has changed the kernel, %v, to\n%s\nfrom\n%s", err, after, before)
	}
	if hasIPVS() {
		theDoctorTriesTunnels(t, l)
	}
	if out, err := n.Exec("sysctl", "-w", "net.ipv4.ip_forward=0"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, code := n.Herald("doctor")
	if code != 1 || !strings.Contains(out, "FAIL forwarding of IPv4: net.ipv4.ip_forward is 0") {
		t.Errorf("of a node that does not forward the doctor says, with exit code %d:\n%s", code, out)
	}
}

// theDoctorTriesTunnels lets a network begin to drop tunnels, as that of some
// clouds does, before node 3.
func theDoctorTriesTunnels(t *testing.T, l *lab.Lab) {
	t.Helper()
	const what = " tunnels to other nodes, IPv4: "
	n := l.Node(2)
	if out, _ := n.Herald("doctor"); !strings.Contains(out, "OK  "+what+"answered by n1 n3\n") {
		t.Errorf("of a network that passes tunnels the doctor says\n%s", out)
	}
	firewall := func(command string) {
		if out, err := l.Node(3).Exec("nft", command); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	firewall("add table ip firewall; add chain ip firewall in { type filter hook prerouting priority -310; }; add rule ip firewall in ip protocol 4 drop")
	out, code := n.Herald("doctor")
	if code != 1 || !strings.Contains(out, "OK  "+what+"answered by n1\n") || !strings.Contains(out, "FAIL"+what+"n3: a ping is answered, a packet through a tunnel is not") {
		t.Errorf("of a network that drops tunnels the doctor says, with exit code %d\n%s", code, out)
	}
	firewall("delete table ip firewall")
}
