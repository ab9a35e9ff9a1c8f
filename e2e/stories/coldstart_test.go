package stories

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// As after a power cut, with an API server that is reached by one of the addresses,
// or that is slower to come up than the nodes.
func TestNodesThatStartWithoutTheAPIServerGoByWhatTheyKnew(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	var served []netip.Addr
	for i := range few {
		s := service{name: fmt.Sprintf("web-%d", i), app: "web"}
		l.Apply(s.String())
		served = append(served, l.WaitAddress(s.name))
	}
	owners := map[netip.Addr]*lab.Node{}
	for _, addr := range served {
		waitAnswer(t, l, l.Client, url(addr))
		owner, err := l.Owner(addr)
		if err != nil {
			t.Fatal(err)
		}
		owners[addr] = owner
	}
	for _, n := range l.Nodes() {
		l.Within(2*time.Minute, n.Name+" keeps what it knows", func() error { return keeps(n, served) })
	}

	l.CutAPI()
	for _, n := range l.Nodes() {
		n.Kill()
	}
	for _, n := range l.Nodes() {
		n.Reboot()
	}
	waitGone(t, l, served[0])
	began := time.Now()
	for _, n := range l.Nodes() {
		n.Prepare()
		n.StartSpeaker()
	}
	for _, addr := range served {
		l.Eventually(addr.String()+" is where it was", func() error {
			owner, err := l.Owner(addr)
			if err == nil && owner != owners[addr] {
				err = fmt.Errorf("it is at %s", owner.Name)
			}
			return err
		})
		t.Logf("%s was announced %s after the start at the latest", addr, time.Since(began).Round(time.Millisecond))
		waitAnswer(t, l, l.Client, url(addr))
		askAll(t, l.Client, url(addr), pods...)
	}

	dead := owners[served[0]]
	dead.Kill()
	l.Eventually("another node has it", func() error {
		owner, err := l.Owner(served[0])
		if err == nil && owner == dead {
			err = errElsewhere
		}
		return err
	})
	l.Eventually("the client's kernel knows", known(l, served[0]))
	waitAnswer(t, l, l.Client, url(served[0]))

	l.RestoreAPI()
	dead.StartSpeaker()
	l.Apply(service{name: "later", app: "web"}.String())
	waitAnswer(t, l, l.Client, url(l.WaitAddress("later")))
	l.DeleteService("web-1")
	waitGone(t, l, served[1])
}

// keeps is nil once what the speaker of n has on disk has all of addrs.
func keeps(n *lab.Node, addrs []netip.Addr) error {
	f, err := os.Open(filepath.Join(n.MemoryDir(), "cluster.json.gz"))
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if !strings.Contains(string(text), `"`+a.String()+`"`) {
			return fmt.Errorf("%s is not in it", a)
		}
	}
	return nil
}
