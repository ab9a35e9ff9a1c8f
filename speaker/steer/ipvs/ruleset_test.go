package ipvs

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/steer"
)

func TestRulesetsDescribeThemselves(t *testing.T) {
	for name, r := range map[string]ruleset{"inside": insideRules(DefaultMark), "host": hostRules(DefaultMark)} {
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

func TestAnotherMarkIsAnotherRuleset(t *testing.T) {
	for name, make := range map[string]func(uint32) ruleset{"inside": insideRules, "host": hostRules} {
		a, err := make(0x1000).describe()
		b, e := make(0x2000).describe()
		if err := errors.Join(err, e); err != nil || slices.Equal(a, b) {
			t.Errorf("%s: rules with another mark cannot be told apart (%v)", name, err)
		}
	}
}

func TestIPVSErrorsAreThoseOfAKernel(t *testing.T) {
	if err := missing(unix.ESRCH); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing(ESRCH) = %v, want os.ErrNotExist", err)
	}
	if err := missing(unix.ENOENT); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing(ENOENT) = %v, want os.ErrNotExist", err)
	}
	if err := missing(unix.ENOMEM); errors.Is(err, os.ErrNotExist) || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("missing(ENOMEM) = %v", err)
	}
	if err := missing(nil); err != nil {
		t.Errorf("missing(nil) = %v", err)
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
