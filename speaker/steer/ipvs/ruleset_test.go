package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

func TestRulesetsDescribeThemselves(t *testing.T) {
	for name, r := range rulesets(marks{DefaultMark, DefaultSecondMark}) {
		lines, err := r.describe()
		if err != nil {
			t.Fatalf("%s: describe() = %v", name, err)
		}
		n := len(r.sets) + len(r.chains)
		for _, c := range r.chains {
			n += len(c.rules)
		}
		if unique := slices.Compact(slices.Clone(lines)); len(unique) != n {
			t.Errorf("%s: %d different lines for %d sets, chains and rules:\n%s", name, len(unique), n, strings.Join(lines, "\n"))
		}
		if again, _ := r.describe(); !slices.Equal(lines, again) {
			t.Errorf("%s: describe() differs from run to run", name)
		}
		for _, line := range lines {
			if _, comment, _ := strings.Cut(line, ": "); len(comment) > 120 {
				t.Errorf("%s: nft shows no comment as long as %q", name, comment)
			}
		}
	}
}

// rulesets are all that a node has.
func rulesets(m marks) map[string]ruleset {
	return map[string]ruleset{
		"single": singleRules(m),
		"back":   backRules(map[family]int{family4: 1440, family6: 1400}),
		"host":   hostRules(hostFacts{m, []netip.Addr{ip("192.0.2.11"), ip("2001:db8::11")}}),
	}
}

func TestAnotherMarkIsAnotherRuleset(t *testing.T) {
	a, b := rulesets(marks{0x1000, 0x40}), rulesets(marks{0x2000, 0x80})
	for _, name := range []string{"single", "host"} {
		one, err := a[name].describe()
		other, e := b[name].describe()
		if err := errors.Join(err, e); err != nil || slices.Equal(one, other) {
			t.Errorf("%s: rules with other marks cannot be told apart (%v)", name, err)
		}
	}
}

func TestMarksTellTheTiersApart(t *testing.T) {
	m := marks{DefaultMark, DefaultSecondMark}
	seen := map[uint32]steer.Tier{0: 99}
	for _, of := range []steer.Tier{steer.Single, steer.Front, steer.Back} {
		value := m.of(of)
		if other, twice := seen[value]; twice || value&^m.mask() != 0 {
			t.Errorf("tier %q has mark %#x, as %q has", of, value, other)
		}
		seen[value] = of
	}
}

func TestIPVSErrorsAreThoseOfAKernel(t *testing.T) {
	server := steer.Change{Verb: steer.Add, Virtual: virtual("192.0.2.1:80", snapshot.TCP), Server: steer.Server{Scheduler: "xy"}}
	dest := server
	dest.Real = netip.MustParseAddrPort("10.0.0.7:8080")
	if err := refused(dest, unix.ESRCH); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ESRCH of a destination = %v, want os.ErrNotExist", err)
	}
	if err := refused(dest, unix.ENOENT); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ENOENT of a destination = %v, want os.ErrNotExist", err)
	}
	if err := refused(server, unix.ENOENT); errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "ip_vs_xy") {
		t.Errorf("ENOENT of a server = %v, want the module that lacks", err)
	}
	if err := refused(server, unix.ENOMEM); errors.Is(err, os.ErrNotExist) || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("ENOMEM = %v", err)
	}
}

func TestAKernelThatIsNotPreparedSaysSo(t *testing.T) {
	ctx, k := context.Background(), New(Options{StateDir: t.TempDir()})
	if _, err := k.Table(ctx); err == nil {
		t.Error("Table() succeeds")
	}
	if err := k.Apply(ctx, []steer.Change{{}}); err == nil {
		t.Error("Apply() succeeds")
	}
	if err := k.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}
