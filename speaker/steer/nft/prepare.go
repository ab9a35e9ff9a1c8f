package nft

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A state is how far the table is what it has to be.
type state int

const (
	absent  state = iota // there is no table
	foreign              // the sets are not ours: another version made it, or IPVS did
	broken               // somebody changed chains or rules
	sound
)

// A finding is what inspect has found.
type finding struct {
	state     state
	chains    map[string]*nftables.Chain // that are there, by name
	strangers []string                   // those of them that nobody wants
	want      []chain                    // the static ones, and the helpers that are there
}

// inspect compares the table with what it has to be.
func (c *conn) inspect(mark uint32) (finding, error) {
	_, err := c.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if errors.Is(err, os.ErrNotExist) {
		return finding{state: absent}, nil
	} else if err != nil {
		return finding{}, fmt.Errorf("looking for it: %w", err)
	}
	sets, err := c.GetSets(c.table)
	if err != nil {
		return finding{}, fmt.Errorf("listing sets: %w", err)
	}
	if !sameSets(sets, allSets()) {
		return finding{state: foreign}, nil
	}
	chains, err := c.chains()
	if err != nil {
		return finding{}, err
	}
	f := sort(chains, mark)
	for _, w := range f.want {
		same, err := c.sameChain(chains[w.name], w)
		if err != nil {
			return finding{}, err
		}
		if !same {
			f.state = broken
		}
	}
	return f, nil
}

// sort tells the chains that are wanted from strangers.
func sort(chains map[string]*nftables.Chain, mark uint32) finding {
	f := finding{state: sound, chains: chains, want: staticChains(mark)}
	for _, name := range slices.Sorted(maps.Keys(chains)) {
		if h, ok := parseHelper(name); ok {
			f.want = append(f.want, h.chain(mark))
		} else if !slices.ContainsFunc(f.want, func(w chain) bool { return w.name == name }) {
			f.strangers, f.state = append(f.strangers, name), broken
		}
	}
	return f
}

// chains lists the chains of the table by name.
func (c *conn) chains() (map[string]*nftables.Chain, error) {
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("listing chains: %w", err)
	}
	have := map[string]*nftables.Chain{}
	for _, ch := range all {
		if ch.Table.Name == tableName {
			have[ch.Name] = ch
		}
	}
	return have, nil
}

// sameSets compares what google/nftables reads back rightly. The types of a
// verdict map it does not: it takes that of the values for that of the keys.
func sameSets(have, want []*nftables.Set) bool {
	byName := map[string]*nftables.Set{}
	for _, s := range have {
		byName[s.Name] = s
	}
	for _, w := range want {
		h := byName[w.Name]
		if h == nil || h.IsMap != w.IsMap || h.Interval != w.Interval || h.Concatenation != w.Concatenation ||
			h.HasTimeout != w.HasTimeout || h.Dynamic != w.Dynamic || w.Size > 0 && h.Size != w.Size {
			return false
		}
		if w.DataType != nftables.TypeVerdict && (h.KeyType != w.KeyType || h.DataType != w.DataType) {
			return false
		}
	}
	return len(have) == len(want)
}

// sameChain compares a chain, which may be nil, with the one that is wanted.
func (c *conn) sameChain(have *nftables.Chain, want chain) (bool, error) {
	if have == nil || !sameHook(have, want) {
		return false, nil
	}
	rules, err := c.GetRules(c.table, have)
	if err != nil {
		return false, fmt.Errorf("listing the rules of chain %s: %w", want.name, err)
	}
	if len(rules) != len(want.rules) {
		return false, nil
	}
	for i, r := range rules {
		if !reflect.DeepEqual(sameable(r.Exprs), sameable(want.rules[i])) {
			return false, nil
		}
	}
	return true, nil
}

// sameable returns a rule as it compares. Timeouts are rounded to seconds: the
// kernel counts in ticks, of which some kernels have 300 a second. What sets the
// mark of a connection is read back by google/nftables without its register.
func sameable(rule []expr.Any) []expr.Any {
	same := slices.Clone(rule)
	for i, e := range rule {
		switch e := e.(type) {
		case *expr.Dynset:
			d := *e
			d.Timeout = d.Timeout.Round(time.Second)
			same[i] = &d
		case *expr.Ct:
			if e.SourceRegister {
				same[i] = &expr.Ct{Key: e.Key}
			}
		}
	}
	return same
}

func sameHook(have *nftables.Chain, want chain) bool {
	if want.hook == nil {
		return have.Hooknum == nil
	}
	return have.Hooknum != nil && *have.Hooknum == *want.hook &&
		have.Priority != nil && *have.Priority == want.priority &&
		have.Type == nftables.ChainTypeNAT &&
		have.Policy != nil && *have.Policy == nftables.ChainPolicyAccept
}

// repair makes all chains and rules anew in one transaction, and leaves the
// elements as they are.
func (c *conn) repair(f finding) error {
	c.FlushTable(c.table) // of its rules
	for _, name := range f.strangers {
		c.DelChain(&nftables.Chain{Name: name, Table: c.table})
	}
	for _, w := range f.want {
		if h := f.chains[w.name]; h != nil && !sameHook(h, w) {
			c.DelChain(&nftables.Chain{Name: w.name, Table: c.table})
		}
		c.putChain(w)
	}
	c.putRules(f.want)
	return c.Flush()
}
