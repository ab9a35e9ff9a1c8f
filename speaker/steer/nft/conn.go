package nft

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

const (
	// chunk is how many elements go into one message: their list is one
	// netlink attribute, whose length has 16 bits.
	chunk = 300
	// buffer is the size of the socket's buffers: a transaction is written
	// at once.
	buffer = 64 << 20
	// patience is how long the kernel may take to answer. All of an answer
	// but a long listing is there when the request has been written.
	patience = 30 * time.Second
)

// A conn is a netlink socket for one transaction after another.
type conn struct {
	*nftables.Conn
	socket *netlink.Conn
	table  *nftables.Table
}

// dial opens a conn in the network namespace of a file descriptor, or in that
// of the process for 0.
func dial(namespace int) (*conn, error) {
	c := &conn{table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}}
	nft, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(namespace),
		nftables.WithSockOptions(func(s *netlink.Conn) error {
			c.socket = s
			return errors.Join(s.SetReadBuffer(buffer), s.SetWriteBuffer(buffer))
		}))
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	c.Conn = nft
	return c, nil
}

// limit sets until when the next exchange with the kernel must be over.
func (c *conn) limit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	end := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	return c.socket.SetDeadline(end)
}

// in returns s as it stands in the table of c.
func (c *conn) in(s *nftables.Set) *nftables.Set {
	s.Table = c.table
	return s
}

// put adds elements to a set, in as many messages as it takes.
func (c *conn) put(s *nftables.Set, elements []nftables.SetElement) error {
	return inChunks(c.in(s), elements, c.SetAddElements)
}

// take takes elements out of a set.
func (c *conn) take(s *nftables.Set, elements []nftables.SetElement) error {
	return inChunks(c.in(s), elements, c.SetDeleteElements)
}

func inChunks(s *nftables.Set, elements []nftables.SetElement,
	send func(*nftables.Set, []nftables.SetElement) error) error {
	for len(elements) > 0 {
		n := min(chunk, len(elements))
		if err := send(s, elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}

// putChain adds a chain without its rules.
func (c *conn) putChain(ch chain) *nftables.Chain {
	made := &nftables.Chain{Name: ch.name, Table: c.table}
	if ch.hook != nil {
		policy := nftables.ChainPolicyAccept
		made.Type, made.Hooknum, made.Priority = nftables.ChainTypeNAT, ch.hook, &ch.priority
		made.Policy = &policy
	}
	return c.AddChain(made)
}

// putRules adds the rules of chains that are there.
func (c *conn) putRules(chains []chain) {
	for _, ch := range chains {
		for _, exprs := range ch.rules {
			c.AddRule(&nftables.Rule{Table: c.table, Chain: &nftables.Chain{Name: ch.name}, Exprs: exprs})
		}
	}
}

// putAll adds the table with all that is there as long as it is.
func (c *conn) putAll(chains []chain) error {
	c.AddTable(c.table)
	for _, s := range allSets() {
		if err := c.AddSet(c.in(s), nil); err != nil {
			return fmt.Errorf("making set %s: %w", s.Name, err)
		}
	}
	for _, ch := range chains {
		c.putChain(ch)
	}
	c.putRules(chains)
	return nil
}
