package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"golang.org/x/sync/errgroup"

	"github.com/herald-lb/herald/cloud"
)

const addrs = "/v1/addresses"

// ofAddresses is what holds for /v1/addresses.
var ofAddresses = []promise{
	{"addresses: what is not there is 404, with an error to read", noAddresses, func(ctx context.Context, t *trial) error {
		return t.refused(ctx, http.MethodGet, addressPath(addressKey(t.owner(), "IPv4")), nil, http.StatusNotFound)
	}},
	{"addresses: the same PUT twice reserves one", noAddresses, holdReserve},
	{"addresses: PUTs at once reserve one", noAddresses, holdReserveAtOnce},
	{"addresses: filters let through what they name, and nothing else", noAddresses, holdAddressFilters},
	{"addresses: one that is assigned moves, and stays the same", noAddresses, holdAssign},
	{"addresses: what is wrong is refused, with an error to read", noAddresses, holdAddressRefusal},
	{"addresses: deleting twice is no error, nor while it is assigned", noAddresses, holdAddressDelete},
}

func noAddresses(t *trial) string {
	switch {
	case !t.can.Addresses:
		return "the server has no addresses"
	case len(t.can.Families) == 0:
		return "the server has no families"
	}
	return ""
}

// reserve reserves an address and waits until it is ready.
func (t *trial) reserve(ctx context.Context, o cloud.Owner, family string) (string, address, error) {
	path := addressPath(addressKey(o, family))
	_, err := t.call(ctx, http.MethodPut, path, t.reservation(o, family), http.StatusOK, http.StatusAccepted)
	if err != nil {
		return path, address{}, err
	}
	a, err := t.address(ctx, path)
	switch {
	case err != nil:
		return path, a, err
	case a.Owner == nil || *a.Owner != ownerOut(o):
		return path, a, fmt.Errorf("owner is %+v, want %+v", a.Owner, ownerOut(o))
	case a.Family != family:
		return path, a, fmt.Errorf("family is %s, want %s", a.Family, family)
	}
	return path, a, nil
}

func (t *trial) reservation(o cloud.Owner, family string) addressRequest {
	return addressRequest{Owner: ownerOut(o), Name: o.ResourceName(), Family: family, Location: t.Location}
}

// address returns the one at path once it is ready.
func (t *trial) address(ctx context.Context, path string) (address, error) {
	rep, err := t.ready(ctx, path)
	if err != nil {
		return address{}, err
	}
	return parseAddress(rep.body)
}

func holdReserve(ctx context.Context, t *trial) error {
	var errs []error
	o := t.owner()
	for _, family := range t.can.Families { // one of each, for one owner
		path, first, err1 := t.reserve(ctx, o, family)
		_, second, err2 := t.reserve(ctx, o, family)
		errs = append(errs, err1, err2, keptAddress(first, second), t.remove(ctx, path))
		if first.AssignedTo != "" {
			errs = append(errs, fmt.Errorf("a new one is assigned to %s", quote(first.AssignedTo)))
		}
	}
	return errors.Join(errs...)
}

func keptAddress(before, now address) error {
	if now.ID != before.ID || now.Address != before.Address {
		return fmt.Errorf("it was %s, %s, and is %s, %s", quote(before.ID), before.Address, quote(now.ID), now.Address)
	}
	return nil
}

func holdReserveAtOnce(ctx context.Context, t *trial) error {
	o, family := t.owner(), t.can.Families[0]
	path := addressPath(addressKey(o, family))
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			_, err := t.call(ctx, http.MethodPut, path, t.reservation(o, family), http.StatusOK, http.StatusAccepted, http.StatusConflict, http.StatusTooManyRequests)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	_, a, err := t.reserve(ctx, o, family)
	if err != nil {
		return err
	}
	f := filter{Cluster: o.Cluster, UID: string(o.UID)}
	got, err := pages[address](ctx, t.client, addrs, f)
	if err == nil {
		err = sameIDs(f, got, []string{a.ID})
	}
	return errors.Join(err, t.remove(ctx, path))
}

func holdAddressFilters(ctx context.Context, t *trial) error {
	path1, one, err1 := t.reserve(ctx, t.owner(), t.can.Families[0])
	path2, two, err2 := t.reserve(ctx, t.owner(), t.can.Families[0])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var errs []error
	for _, c := range []struct {
		f    filter
		want []string
	}{
		{filter{Cluster: t.Cluster()}, []string{one.ID, two.ID}},
		{filter{Cluster: t.Cluster(), Limit: "1"}, []string{one.ID, two.ID}},
		{filter{Cluster: t.Cluster(), UID: two.Owner.UID}, []string{two.ID}},
		{filter{Cluster: t.Cluster() + "-other"}, nil},
		{filter{Ref: one.Address}, []string{one.ID}},
	} {
		got, err := pages[address](ctx, t.client, addrs, c.f)
		errs = append(errs, err, sameIDs(c.f, got, c.want))
	}
	return errors.Join(append(errs, t.remove(ctx, path1), t.remove(ctx, path2))...)
}

func holdAssign(ctx context.Context, t *trial) error {
	path, first, err := t.reserve(ctx, t.owner(), t.can.Families[0])
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range []int{0, 0, 1, 0} { // again, on, and back
		to := t.Targets[i].Instance.ID
		now, err := t.assign(ctx, path, first.ID, to)
		errs = append(errs, err)
		if err == nil && now.AssignedTo != to {
			errs = append(errs, fmt.Errorf("it is ready, and assigned to %s, want %s", quote(now.AssignedTo), quote(to)))
		}
		if err == nil {
			errs = append(errs, keptAddress(first, now))
		}
	}
	_, again, err := t.reserve(ctx, ownerIn(first.Owner), first.Family)
	errs = append(errs, err)
	if want := t.Targets[0].Instance.ID; err == nil && again.AssignedTo != want {
		errs = append(errs, fmt.Errorf("another PUT has taken it from its instance: it goes to %s, want %s", quote(again.AssignedTo), quote(want)))
	}
	return errors.Join(append(errs, t.remove(ctx, path))...)
}

func (t *trial) assign(ctx context.Context, path, id, to string) (address, error) {
	_, err := t.call(ctx, http.MethodPost, addrs+"/"+url.PathEscape(id)+"/assign", assignment{to}, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return address{}, err
	}
	return t.address(ctx, path)
}

func holdAddressRefusal(ctx context.Context, t *trial) error {
	o := t.owner()
	path := addressPath(addressKey(o, "IPv4"))
	wrong := t.reservation(o, "IPv5")
	return errors.Join(
		t.refused(ctx, http.MethodPut, path, wrong, http.StatusBadRequest, http.StatusUnprocessableEntity),
		t.refused(ctx, http.MethodPost, addrs+"/"+t.Run+"-nothing/assign", assignment{t.Targets[0].Instance.ID}, http.StatusNotFound),
	)
}

func holdAddressDelete(ctx context.Context, t *trial) error {
	path, a, err := t.reserve(ctx, t.owner(), t.can.Families[0])
	if err != nil {
		return err
	}
	_, err = t.assign(ctx, path, a.ID, t.Targets[0].Instance.ID)
	return errors.Join(err, t.remove(ctx, path), t.remove(ctx, path))
}
