package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/steer"
)

// Apply implements [steer.Kernel]. Elements of sets are gathered and sent in
// one transaction, at the end or before the first address is taken in: by then
// the servers of that address have to have the SNAT they want.
func (k *Kernel) Apply(ctx context.Context, changes []steer.Change) error {
	if err := k.ready(); err != nil {
		return err
	}
	errs := make([]error, len(changes))
	b := batch{k: k, errs: errs}
	for i, c := range changes {
		if c.Kind() == steer.KindAddr && c.Verb == steer.Add {
			b.send()
		}
		if err := cmp.Or(ctx.Err(), steer.Check(c)); err != nil {
			errs[i] = err
			continue
		}
		errs[i] = b.change(i, c)
	}
	b.send()
	for i, c := range changes {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", c, errs[i])
		}
	}
	return errors.Join(errs...)
}

// change makes change number i, or notes what of it belongs in a set.
func (b *batch) change(i int, c steer.Change) error {
	switch c.Kind() {
	case steer.KindAddr:
		return b.address(c)
	case steer.KindPods:
		return b.pod(i, c)
	case steer.KindDest:
		return b.k.changeDest(c)
	}
	if err := b.k.changeServer(c); err != nil {
		return err
	}
	// Also where SNAT is not wanted: a crash may have left the element.
	b.wantSNAT(i, c.Virtual, c.Verb != steer.Del && c.Server.SNAT)
	return nil
}

func (b *batch) address(c steer.Change) (err error) {
	if b.way == nil {
		if b.way, err = b.k.way(); err != nil {
			return err
		}
	}
	if c.Verb == steer.Add {
		return b.way.add(c.Addr)
	}
	return b.way.del(c.Addr)
}

func (k *Kernel) changeServer(c steer.Change) error {
	svc := service(c.Virtual, c.Server)
	var err error
	switch c.Verb {
	case steer.Add:
		err = k.ipvs.NewService(svc)
	case steer.Set:
		err = k.ipvs.UpdateService(svc)
	default:
		return missing(k.ipvs.DelService(svc))
	}
	if errors.Is(err, unix.ENOENT) { // a server that is not there is ESRCH
		return fmt.Errorf("this kernel has no scheduler %q; load the module ip_vs_%[1]s on the node", c.Server.Scheduler)
	}
	return missing(err)
}

func (k *Kernel) changeDest(c steer.Change) error {
	svc, dest := service(c.Virtual, steer.Server{}), destinationOf(c.Real, c.Weight)
	switch c.Verb {
	case steer.Add:
		return missing(k.ipvs.NewDestination(svc, dest))
	case steer.Set:
		return missing(k.ipvs.UpdateDestination(svc, dest))
	}
	return missing(k.ipvs.DelDestination(svc, dest))
}

// missing makes the error of IPVS for a server that it has not
// (net/netfilter/ipvs/ip_vs_ctl.c) be what a Kernel promises.
func missing(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("no such virtual server: %w", os.ErrNotExist)
	}
	return err
}
