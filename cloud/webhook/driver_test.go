package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

func TestLifeOfALoadBalancer(t *testing.T) {
	d, ref := judged(t, sample(t))
	want := webSpec()

	found := one(t, d, web)
	carryOut(t, d, plan(t, d, want, found))
	found = one(t, d, web)
	if found.Kind != cloud.LoadBalancer || found.State != cloud.Ready || !found.Owner.Same(web) || len(found.Addrs) != 1 || found.Adopted {
		t.Fatalf("found %+v", found)
	}
	if got := ref.mutations(); len(got) != 1 {
		t.Errorf("making it took %q, want one PUT", got)
	}
	if p := plan(t, d, want, found); len(p) != 0 {
		t.Errorf("of what is as it should be is planned: %v", p)
	}

	want.Listeners[0].NodePort = 31000
	carryOut(t, d, plan(t, d, want, found))
	again := one(t, d, web)
	if again.ID != found.ID || !slices.Equal(again.Addrs, found.Addrs) {
		t.Errorf("a change of a port made %+v of %+v", again, found)
	}
	if got := ref.mutations(); len(got) != 1 {
		t.Errorf("changing it took %q, want one PUT", got)
	}

	removal := d.PlanRemoval(*again, cloud.PolicyDelete)
	carryOut(t, d, removal)
	carryOut(t, d, removal) // done already is no error
	if f := one(t, d, web); f != nil {
		t.Errorf("after it was deleted there is %+v", f)
	}
}

// one returns what there is of an owner, or nil.
func one(t *testing.T, d *Driver, o cloud.Owner) *cloud.Found {
	t.Helper()
	found, err := d.Find(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	switch len(found) {
	case 0:
		return nil
	case 1:
		return &found[0]
	}
	t.Fatalf("there are %+v", found)
	return nil
}

func plan(t *testing.T, d *Driver, want cloud.LBSpec, found *cloud.Found) cloud.Plan {
	t.Helper()
	p, err := d.Plan(want, found)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Whatever is wanted, and whatever was before: carried out, nothing is left to do.
func TestSampleConverges(t *testing.T) {
	d, _ := judged(t, sample(t))
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		want := randomSpec(rnd, string('a'+rune(rnd.IntN(4))))
		carryOut(t, d, plan(t, d, want, one(t, d, want.Owner)))
		if p := plan(t, d, want, one(t, d, want.Owner)); len(p) != 0 {
			t.Fatalf("of %+v is still planned: %v", want, p)
		}
	}
	all, err := d.List(t.Context(), "c1")
	if err != nil || len(all) != 4 {
		t.Errorf("in the end there are %d, %v", len(all), err)
	}
}

func TestPendingUntilReady(t *testing.T) {
	t.Parallel()                                 // it mostly waits
	d, _ := judged(t, sample(t, "--slow", "10")) // long enough to look meanwhile, on any machine
	p, err := d.Apply(t.Context(), plan(t, d, webSpec(), nil)[0])
	if err != nil || p.After < 2*time.Second || p.After > 10*time.Second || p.Resource == "" {
		t.Fatalf("pending %+v, %v; want about ten seconds to wait", p, err)
	}
	left, err := d.Poll(t.Context(), []cloud.Pending{p, p})
	if err != nil || len(left) != 1 {
		t.Errorf("polled at once: %+v, %v; want one that is pending", left, err)
	}
	if f := one(t, d, web); f == nil || f.State != cloud.Busy {
		t.Errorf("meanwhile found %+v, want it busy", f)
	}
	wait(t, d, p)
	if p := plan(t, d, webSpec(), one(t, d, web)); len(p) != 0 {
		t.Errorf("then planned %v", p)
	}
}

func TestAdoption(t *testing.T) {
	d, ref := judged(t, sample(t))
	carryOut(t, d, plan(t, d, webSpec(), nil))
	mine := one(t, d, web)
	carryOut(t, d, d.PlanRemoval(*mine, cloud.PolicyRelease))
	if f := one(t, d, web); f != nil {
		t.Fatalf("after it was released it is still found: %+v", f)
	}

	ref.mutations()
	for _, name := range []string{mine.ID, mine.Name, mine.Addrs[0].String()} {
		f, err := d.Lookup(t.Context(), name)
		if err != nil || f.ID != mine.ID || f.Owner != (cloud.Owner{}) {
			t.Fatalf("looking %s up: %+v, %v", name, f, err)
		}
	}
	f, _ := d.Lookup(t.Context(), mine.ID)
	heir := webSpec()
	heir.Owner.UID = "6f3c2f6e-0002"
	p := plan(t, d, heir, &f)
	if len(p) != 2 || p[0].Order != cloud.Mark {
		t.Fatalf("planned %v, want a mark first", p)
	}
	carryOut(t, d, p)
	now := one(t, d, heir.Owner)
	if now == nil || now.ID != mine.ID || !slices.Equal(now.Addrs, mine.Addrs) || !now.Adopted {
		t.Errorf("adopted: %+v, want %+v", now, mine)
	}
	if _, err := d.Apply(t.Context(), p[0]); err != nil {
		t.Errorf("to adopt it once more: %v", err)
	}
	thief := webSpec()
	thief.Owner.UID = "6f3c2f6e-0003"
	if _, err := d.Apply(t.Context(), plan(t, d, thief, &f)[0]); !cloud.Is(err, cloud.Conflict) {
		t.Errorf("to adopt what has become another's: %v, want a conflict", err)
	}
}

func TestLifeOfAnAddress(t *testing.T) {
	d, _ := judged(t, sample(t, "--slow", "0.1"))
	reserve := func(family corev1.IPFamily, location string) (cloud.FoundAddress, error) {
		return d.Reserve(t.Context(), cloud.AddressSpec{Owner: web, Family: family, Location: location})
	}
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		first, err := reserve(family, "fsn1")
		if err != nil {
			t.Fatal(err)
		}
		for first.State != cloud.Ready {
			time.Sleep(20 * time.Millisecond)
			if first, err = reserve(family, "fsn1"); err != nil {
				t.Fatal(err)
			}
		}
		second, err := reserve(family, "fsn1")
		if err != nil || first.ID != second.ID || len(first.Addrs) != 1 || first.Prefix.Addr() != first.Addrs[0] {
			t.Fatalf("reserved %+v, and then %+v, %v", first, second, err)
		}
		if got, err := d.LookupAddress(t.Context(), first.Addrs[0].String()); err != nil || got.ID != first.ID {
			t.Errorf("%s is %+v, %v", first.Addrs[0], got, err)
		}
	}
	if _, err := reserve(corev1.IPv4Protocol, "hel1"); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("to reserve it elsewhere: %v", err)
	}
	for _, to := range []string{"i-1", "i-1", "i-2"} {
		found, err := d.FindAddresses(t.Context(), web)
		if err != nil || len(found) != 2 {
			t.Fatalf("found %+v, %v", found, err)
		}
		for _, f := range found {
			p, err := d.Assign(t.Context(), f, cloud.Instance{ID: to})
			if err != nil {
				t.Fatal(err)
			}
			wait(t, d, p)
		}
		for _, f := range must(d.ListAddresses(t.Context(), web.Cluster))(t) {
			if f.Instance.ID != to {
				t.Errorf("assigned to %s: %+v", to, f)
			}
		}
	}
	for _, f := range must(d.FindAddresses(t.Context(), web))(t) {
		carryOut(t, d, d.PlanRemoval(f.Found, cloud.PolicyDelete))
	}
	if left := must(d.FindAddresses(t.Context(), web))(t); len(left) != 0 {
		t.Errorf("after all was deleted there is %+v", left)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A server that restarts forgets nothing, and neither does who asks it.
func TestStateOutlivesTheSample(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state.json")
	d, _ := judged(t, sample(t, "--state", state))
	carryOut(t, d, plan(t, d, webSpec(), nil))
	before := one(t, d, web)

	d, _ = judged(t, sample(t, "--state", state))
	after := one(t, d, web)
	if after == nil || after.ID != before.ID || !slices.Equal(after.Addrs, before.Addrs) || len(plan(t, d, webSpec(), after)) != 0 {
		t.Errorf("after a restart %+v, before %+v", after, before)
	}
}

func TestToken(t *testing.T) {
	const secret = "correct-horse"
	url := sample(t, "--token-file", tokenFile(t, secret))
	ask := func(c cloud.Config) error {
		c.Endpoint = url
		d, err := Open(c, cloud.Env{HTTP: http.DefaultClient})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Capabilities(t.Context())
		return err
	}
	if err := ask(cloud.Config{TokenFile: tokenFile(t, secret)}); err != nil {
		t.Errorf("with the token: %v", err)
	}
	if err := ask(cloud.Config{}); !cloud.Is(err, cloud.Auth) {
		t.Errorf("without one: %v", err)
	}
	if err := ask(cloud.Config{TokenFile: tokenFile(t, "wrong-horse")}); !cloud.Is(err, cloud.Auth) || strings.Contains(err.Error(), "horse") {
		t.Errorf("with another: %v", err)
	}
	t.Setenv(variable, secret)
	if err := ask(cloud.Config{}); err != nil {
		t.Errorf("with the token in the environment: %v", err)
	}
}

func TestListIsOfOneClusterAndAllPages(t *testing.T) {
	d, _ := judged(t, sample(t))
	for i := range 130 { // more than a page
		w := webSpec()
		w.Owner.Cluster = []string{"c1", "c2"}[i/120]
		w.Owner.UID = types.UID(fmt.Sprintf("uid-%d", i))
		carryOut(t, d, plan(t, d, w, nil))
	}
	for cluster, want := range map[string]int{"c1": 120, "c2": 10, "c3": 0} {
		if got := must(d.List(t.Context(), cluster))(t); len(got) != want {
			t.Errorf("of %s there are %d, want %d", cluster, len(got), want)
		}
	}
	if _, err := d.List(t.Context(), ""); err == nil {
		t.Error("of no cluster there is a list, want an error")
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, endpoint := range []string{"", "localhost:8080", "ftp://x", "http://", "http://user:secret@x", "http://x?token=secret"} {
		_, err := Open(cloud.Config{Endpoint: endpoint}, cloud.Env{})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
	if _, err := Open(cloud.Config{Endpoint: "http://x", ClusterID: "a/b"}, cloud.Env{}); err == nil {
		t.Error("a cluster's ID with a slash is accepted")
	}
	if _, err := cloud.OpenDriver(cloud.Config{Provider: "webhook", Endpoint: "http://x"}, cloud.Env{}); err != nil {
		t.Errorf("it is not registered: %v", err)
	}
}

func TestContextEndsARequest(t *testing.T) {
	d, _ := judged(t, sample(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Find(ctx, web); err == nil {
		t.Error("after its end something was found")
	}
}
