package nft

import (
	"context"
	"fmt"

	"github.com/google/nftables"
)

// Probe says why nftables cannot steer in the network namespace of the
// process; nil if it can. It makes all that a Kernel makes under another name
// and deletes it again in the same transaction, so that nobody ever sees it.
func Probe() error {
	c, err := dial(0)
	if err != nil {
		return err
	}
	defer c.CloseLasting()
	c.table = &nftables.Table{Name: tableName + "-probe", Family: nftables.TableFamilyINet}
	if err := c.limit(context.Background()); err != nil {
		return err
	}
	chains := staticChains(DefaultMark)
	for _, e := range entrances {
		for _, d := range []draw{byTurn, atRandom, bySource, byFlow} {
			chains = append(chains, helper{entrance: e, draw: d, n: 2, keep: 60}.chain(DefaultMark))
		}
	}
	if err := c.putAll(chains); err != nil {
		return err
	}
	c.DelTable(c.table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("trying nftables (it takes NET_ADMIN and a kernel with "+
			"nf_tables of 5.6, nft_ct, nft_nat, nft_masq, nft_redir, nft_reject_inet, nft_fib_inet, nft_numgen, nft_hash): %w", err)
	}
	return nil
}
