package ipvs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A ruleset is what one nftables table has to hold, beside the elements of its
// sets: those are rows.
type ruleset struct {
	sets   []*nftables.Set
	chains []chain
}

type chain struct {
	nftables.Chain
	rules []rule
}

// A rule carries what it is for as its comment, with a hash of what it does:
// so it explains itself in "nft list ruleset", and a change of it is noticed
// when a newer Herald adopts the table of an older one.
type rule struct {
	why string
	do  []expr.Any
}

// table is Herald's table, in either namespace.
var table = &nftables.Table{Name: "herald", Family: nftables.TableFamilyINet}

// describe returns one line for each set, chain and rule.
func (r ruleset) describe() ([]string, error) {
	lines := describeSets(r.sets)
	for _, c := range r.chains {
		lines = append(lines, describeChain(&c.Chain))
		for i, rule := range c.rules {
			comment, err := rule.comment()
			if err != nil {
				return nil, err
			}
			lines = append(lines, describeRule(c.Name, i, comment))
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func describeSets(sets []*nftables.Set) (lines []string) {
	for _, s := range sets {
		line := "set " + s.Name + " of " + s.KeyType.Name
		if s.Interval {
			line += " interval"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func describeChain(c *nftables.Chain) string {
	if c.Hooknum == nil || c.Priority == nil {
		return fmt.Sprintf("chain %s", c.Name)
	}
	return fmt.Sprintf("chain %s: %s at hook %d, priority %d", c.Name, c.Type, *c.Hooknum, *c.Priority)
}

func describeRule(chain string, i int, comment string) string {
	return fmt.Sprintf("rule %s/%d: %s", chain, i, comment)
}

func (r rule) comment() (string, error) {
	hash := sha256.New()
	for _, e := range r.do {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return "", fmt.Errorf("encoding the rule %q: %w", r.why, err)
		}
		hash.Write(b)
	}
	return fmt.Sprintf("%s [%x]", r.why, hash.Sum(nil)[:4]), nil
}

// found is what a namespace has of Herald's table.
type found struct {
	lines  []string // as describe would say it
	sets   []*nftables.Set
	chains []*nftables.Chain
}

func (p *place) findTable(conn *nftables.Conn) (f found, err error) {
	tables, err := conn.ListTablesOfFamily(table.Family)
	if err != nil {
		return f, fmt.Errorf("listing nftables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == table.Name }) {
		return f, nil // asking for the sets of a table that is not there is an error
	}
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return f, fmt.Errorf("listing nftables chains: %w", err)
	}
	for _, c := range chains {
		if c.Table != nil && c.Table.Name == table.Name {
			c.Table = table
			f.chains = append(f.chains, c)
		}
	}
	if f.sets, err = conn.GetSets(table); err != nil {
		return f, fmt.Errorf("listing nftables sets: %w", err)
	}
	comments, err := p.comments()
	if err != nil {
		return f, fmt.Errorf("listing nftables rules: %w", err)
	}
	f.lines = describeSets(f.sets)
	for _, c := range f.chains {
		f.lines = append(f.lines, describeChain(c))
		for i, comment := range comments[c.Name] {
			f.lines = append(f.lines, describeRule(c.Name, i, comment))
		}
	}
	slices.Sort(f.lines)
	return f, nil
}

// comments returns those of the rules of Herald's table, by chain, in order. The
// library cannot list the rules: it fails at one that names a direction of
// connection tracking, which it takes for four bytes (google/nftables
// v0.3.0, expr/ct.go).
func (p *place) comments() (map[string][]string, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(p.ns)})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(table.Name + "\x00")}})
	if err != nil {
		return nil, err
	}
	const header = 4 // struct nfgenmsg: family, version, resource
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	if err != nil {
		return nil, err
	}
	comments := map[string][]string{}
	for _, a := range answers {
		if len(a.Data) < header {
			return nil, fmt.Errorf("a rule of %d bytes", len(a.Data))
		}
		rule, err := netlink.NewAttributeDecoder(a.Data[header:])
		if err != nil {
			return nil, err
		}
		var chain, comment string
		for rule.Next() {
			switch rule.Type() {
			case unix.NFTA_RULE_CHAIN:
				chain = rule.String()
			case unix.NFTA_RULE_USERDATA:
				comment, _ = userdata.GetString(rule.Bytes(), userdata.TypeComment)
			}
		}
		if err := rule.Err(); err != nil {
			return nil, err
		}
		comments[chain] = append(comments[chain], comment)
	}
	return comments, nil
}

// ensure makes Herald's table in p be as want says, in one transaction. If it
// is already, nothing is sent. Sets that are right keep their elements.
func (p *place) ensure(want ruleset) error {
	should, err := want.describe()
	if err != nil {
		return err
	}
	return p.nft(func(conn *nftables.Conn) error {
		is, err := p.findTable(conn)
		if err != nil || slices.Equal(is.lines, should) {
			return err
		}
		if err := clearTable(conn, is, want.sets); err != nil {
			return err
		}
		if err := addChains(conn, want.chains); err != nil {
			return err
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("making nftables table %s: %w", table.Name, err)
		}
		p.mend("nftables table %s", table.Name)
		return nil
	})
}

// clearTable makes the table have no chains, and the sets that are wanted: those
// that are there with their elements or, if any differs, all of them empty.
func clearTable(conn *nftables.Conn, is found, sets []*nftables.Set) error {
	conn.AddTable(table) // so that deleting it cannot fail
	if slices.Equal(describeSets(is.sets), describeSets(sets)) {
		for _, c := range is.chains { // rules first: they may jump to other chains
			conn.FlushChain(c)
		}
		for _, c := range is.chains {
			conn.DelChain(c)
		}
		return nil
	}
	conn.DelTable(table)
	conn.AddTable(table)
	for _, s := range sets {
		fresh := *s // AddSet numbers it
		if err := conn.AddSet(&fresh, nil); err != nil {
			return fmt.Errorf("making set %s: %w", s.Name, err)
		}
	}
	return nil
}

func addChains(conn *nftables.Conn, chains []chain) error {
	for _, c := range chains {
		base := c.Chain
		base.Table = table
		conn.AddChain(&base)
		for _, r := range c.rules {
			comment, err := r.comment()
			if err != nil {
				return err
			}
			conn.AddRule(&nftables.Rule{
				Table: table, Chain: &base, Exprs: r.do,
				UserData: userdata.AppendString(nil, userdata.TypeComment, comment),
			})
		}
	}
	return nil
}

// drop removes Herald's table from p if it is of the make of r; another of that
// name belongs to the fallback, which removes it itself.
func (p *place) drop(r ruleset) error {
	should, err := r.describe()
	if err != nil {
		return err
	}
	return p.nft(func(conn *nftables.Conn) error {
		is, err := p.findTable(conn)
		if err != nil || !slices.ContainsFunc(is.lines, func(line string) bool {
			return slices.Contains(should, line) && strings.HasPrefix(line, "chain ")
		}) {
			return err
		}
		conn.DelTable(table)
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("deleting nftables table %s: %w", table.Name, err)
		}
		return nil
	})
}

// nft runs f with a connection to nftables in p. It is a new one each time: a
// transaction that fails leaves answers unread on the old one.
func (p *place) nft(f func(*nftables.Conn) error) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(p.ns)), nftables.AsLasting(),
		nftables.WithSockOptions(bigBuffers))
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	return errors.Join(f(conn), conn.CloseLasting())
}
