package stories

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }

// addrs are the addresses that the stories' pools are made of.
const addrs = "192.168.50.200-192.168.50.215"

// pool returns an AddressPool with nothing but addresses.
func pool(name string, addresses ...string) string {
	return fmt.Sprintf(`{apiVersion: herald-lb.io/v1alpha1, kind: AddressPool, metadata: {name: %s}, spec: {addresses: ["%s"]}}`,
		name, strings.Join(addresses, `", "`))
}

// A service is a Service of type LoadBalancer for the pods of the same app,
// unless it says otherwise.
type service struct {
	name  string
	app   string // the name, unless given; "none" for no selector
	kind  string // LoadBalancer
	ports string // {port: 80, targetPort: 8080}
	more  string // of the spec
	meta  string // of the metadata, beside the name
}

func (s service) String() string {
	selector := fmt.Sprintf("selector: {app: %s}, ", cmp.Or(s.app, s.name))
	if s.app == "none" {
		selector = ""
	}
	more := s.more
	if more != "" {
		more = ", " + more
	}
	meta := s.meta
	if meta != "" {
		meta = ", " + meta
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s%s}, spec: {type: %s, %sports: [%s]%s}}",
		s.name, meta, cmp.Or(s.kind, "LoadBalancer"), selector, cmp.Or(s.ports, "{name: web, port: 80, targetPort: 8080}"), more)
}

// objects joins manifests.
func objects(manifests ...fmt.Stringer) string {
	var docs []string
	for _, m := range manifests {
		docs = append(docs, m.String())
	}
	return strings.Join(docs, "\n---\n")
}

// url is where addr is asked on port 80.
func url(addr netip.Addr) string { return "http://" + netip.AddrPortFrom(addr, 80).String() }

// waitAnswer waits until a host is answered at the URL.
func waitAnswer(t testing.TB, l *lab.Lab, from *lab.Host, url string) (answer string) {
	t.Helper()
	l.Eventually(from.Name+" is answered at "+url, func() (err error) {
		answer, err = from.Get(url)
		return err
	})
	return answer
}

// askAll asks until every one of pods has answered, and no other. No request
// may fail. The last of them may become an endpoint a while after the first.
func askAll(t testing.TB, from *lab.Host, url string, pods ...string) {
	t.Helper()
	const enough, within = 40, 10 * time.Second
	heard, began := map[string]int{}, time.Now()
	for i := 0; i < enough*len(pods) || time.Since(began) < within; i++ {
		body, err := from.Get(url)
		if err != nil {
			t.Fatalf("asking %s from %s, answered so far by %v: %v", url, from.Name, heard, err)
		}
		heard[lab.PodOf(body)]++
		if len(heard) == len(pods) {
			break
		}
	}
	if got := slices.Sorted(maps.Keys(heard)); !slices.Equal(got, slices.Sorted(slices.Values(pods))) {
		t.Errorf("asking %s from %s: answered by %v, want %v", url, from.Name, got, pods)
	}
}

// onePodEach starts a pod of the app on every node.
func onePodEach(l *lab.Lab, app string) (names []string) {
	for i := range l.Nodes() {
		name := fmt.Sprintf("%s-%d", app, i+1)
		l.Pod(i+1, name, lab.PodSpec{Labels: lab.App(app)})
		names = append(names, name)
	}
	return names
}

// waitGone waits until nothing on the wire or in a kernel knows addr.
func waitGone(t testing.TB, l *lab.Lab, addrs ...netip.Addr) {
	t.Helper()
	l.Eventually(fmt.Sprintf("nothing answers for %v", addrs), func() error { return l.Silent(addrs...) })
	l.Eventually(fmt.Sprintf("no kernel steers %v", addrs), func() error { return l.NoRows(addrs...) })
}
