package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/herald-lb/herald/cloud"
)

const lbs = "/v1/loadbalancers"

// ofLoadBalancers is what holds for /v1/loadbalancers.
var ofLoadBalancers = []promise{
	{"load balancers: what is not there is 404, with an error to read", noLBs, func(ctx context.Context, t *trial) error {
		return t.refused(ctx, http.MethodGet, lbPath(key(t.owner())), nil, http.StatusNotFound)
	}},
	{"load balancers: a list of nothing is empty, and no error", noLBs, holdEmptyList},
	{"load balancers: what was made has an address and echoes what was asked", noLBs, holdCreate},
	{"load balancers: the same PUT twice makes one, with the same address", noLBs, holdTwice},
	{"load balancers: a change keeps ID and address", noLBs, holdChange},
	{"load balancers: unknown fields are neither refused nor echoed", noLBs, holdUnknownFields},
	{"load balancers: what is wrong is refused, with an error to read, and makes nothing", noLBs, holdRefusal},
	{"load balancers: PUTs at once make one", noLBs, holdAtOnce},
	{"load balancers: filters let through what they name, and nothing else", noLBs, holdFilters},
	{"load balancers: pages have each of them once", noLBs, holdPages},
	{"load balancers: a deletion is one, and of nothing else", noLBs, holdDelete},
	{"load balancers: deleting twice is no error", noLBs, holdDeleteTwice},
	{"load balancers: what is let go of stays, and can be adopted", func(t *trial) string {
		if !t.can.LoadBalancers || !t.can.Adoption {
			return "the server has no adoption"
		}
		return ""
	}, holdAdoption},
}

func noLBs(t *trial) string {
	if !t.can.LoadBalancers {
		return "the server has no load balancers"
	}
	return ""
}

// put makes, or changes, a load balancer, and waits until it is ready.
func (t *trial) put(ctx context.Context, path string, body any) (loadBalancer, error) {
	rep, err := t.call(ctx, http.MethodPut, path, body, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return loadBalancer{}, err
	}
	if _, err := parseLB(rep.body); err != nil {
		return loadBalancer{}, fmt.Errorf("PUT %s: %w", path, err)
	}
	if rep, err = t.ready(ctx, path); err != nil {
		return loadBalancer{}, err
	}
	return parseLB(rep.body)
}

// make makes the load balancer of an owner who is made up. It is that owner's, and
// has a spec, or it is an error.
func (t *trial) make(ctx context.Context) (lbRequest, string, loadBalancer, error) {
	o := t.owner()
	want, path := t.want(o), lbPath(key(o))
	lb, err := t.put(ctx, path, want)
	switch {
	case err != nil:
	case lb.Owner == nil || *lb.Owner != want.Owner:
		err = fmt.Errorf("owner of %s is %+v, want %+v", quote(lb.ID), lb.Owner, want.Owner)
	default:
		err = echoes(lb, want.Spec)
	}
	return want, path, lb, err
}

func holdEmptyList(ctx context.Context, t *trial) error {
	got, err := pages[loadBalancer](ctx, t.client, lbs, filter{Cluster: t.Cluster(), UID: string(t.owner().UID)})
	if err == nil && len(got) > 0 {
		err = fmt.Errorf("there are %d, though nothing was made", len(got))
	}
	return err
}

func holdCreate(ctx context.Context, t *trial) error {
	want, path, lb, err := t.make(ctx)
	if err != nil {
		return err
	}
	families := each(lb.Addresses, familyOf)
	slices.Sort(families)
	wanted := slices.Sorted(slices.Values(want.Spec.Families))
	switch {
	case lb.Adopted:
		return errors.New("it is adopted, though it was made")
	case !slices.Equal(slices.Compact(families), wanted):
		return fmt.Errorf("addresses are %q, want one each of %q", lb.Addresses, wanted)
	}
	return t.remove(ctx, path)
}

func echoes(lb loadBalancer, want lbSpec) error {
	switch {
	case lb.Spec == nil:
		return fmt.Errorf("%s is ready, and has no spec", quote(lb.ID))
	case !equal(*lb.Spec, want):
		return fmt.Errorf("%s is ready, and its spec is %s, want %s", quote(lb.ID), lb.Spec.canonical(), want.canonical())
	}
	return nil
}

func holdTwice(ctx context.Context, t *trial) error {
	want, path, first, err := t.make(ctx)
	if err != nil {
		return err
	}
	second, err := t.put(ctx, path, want)
	return errors.Join(err, kept(first, second), t.remove(ctx, path))
}

// kept is whether a load balancer is the one that it was.
func kept(before, now loadBalancer) error {
	if now.ID != before.ID || !slices.Equal(now.Addresses, before.Addresses) {
		return fmt.Errorf("it was %s at %q, and is %s at %q", quote(before.ID), before.Addresses, quote(now.ID), now.Addresses)
	}
	return nil
}

func holdChange(ctx context.Context, t *trial) error {
	want, path, first, err := t.make(ctx)
	if err != nil {
		return err
	}
	more := want.Spec.Listeners[0]
	more.Port, more.NodePort, more.HealthCheck.Port = 443, 30443, 30443
	want.Spec.Listeners = append(want.Spec.Listeners, more)
	want.Spec.Targets = each(t.Targets[1:], func(c cloud.Target) target { return target{c.Node, c.Instance.ID, c.Addr.String()} })
	second, err := t.put(ctx, path, want)
	if err != nil {
		return err
	}
	return errors.Join(kept(first, second), echoes(second, want.Spec), t.remove(ctx, path))
}

func holdUnknownFields(ctx context.Context, t *trial) error {
	const marker = "x-field-of-the-future"
	o := t.owner()
	text, err := json.Marshal(t.want(o))
	if err != nil {
		return err
	}
	// In each object: the request, its owner, spec, listener, health check and target.
	text = []byte(strings.ReplaceAll(string(text), "{", `{"`+marker+`":1,`))
	path := lbPath(key(o))
	if _, err := t.put(ctx, path, text); err != nil {
		return err
	}
	rep, err := t.call(ctx, http.MethodGet, path, nil, http.StatusOK)
	if err == nil && strings.Contains(string(rep.body), marker) {
		err = errors.New("it echoes a field of which it cannot know what it means")
	}
	return errors.Join(err, t.remove(ctx, path))
}

func holdRefusal(ctx context.Context, t *trial) error {
	o := t.owner()
	path := lbPath(key(o))
	stranger, nowhere := t.want(o), t.want(o)
	stranger.Spec.Listeners[0].Protocol = "PIGEON"
	nowhere.Spec.Families = []string{}
	var errs []error
	for _, body := range []any{[]byte(`{"owner":`), []byte(`[]`), []byte(`{}`), stranger, nowhere} {
		errs = append(errs, t.refused(ctx, http.MethodPut, path, body, http.StatusBadRequest, http.StatusUnprocessableEntity))
	}
	if _, err := t.call(ctx, http.MethodGet, path, nil, http.StatusNotFound); err != nil {
		errs = append(errs, fmt.Errorf("after what was refused: %w", err), t.remove(ctx, path))
	}
	return errors.Join(errs...)
}

func holdAtOnce(ctx context.Context, t *trial) error {
	o := t.owner()
	want, path := t.want(o), lbPath(key(o))
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			_, err := t.call(ctx, http.MethodPut, path, want, http.StatusOK, http.StatusAccepted, http.StatusConflict, http.StatusTooManyRequests)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if _, err := t.put(ctx, path, want); err != nil {
		return err
	}
	got, err := pages[loadBalancer](ctx, t.client, lbs, filter{Cluster: o.Cluster, UID: string(o.UID)})
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("there are %d", len(got))
	}
	return errors.Join(err, t.remove(ctx, path))
}

func holdFilters(ctx context.Context, t *trial) error {
	_, path1, one, err1 := t.make(ctx)
	_, path2, two, err2 := t.make(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var errs []error
	for _, c := range []struct {
		f    filter
		want []string
	}{
		{filter{Cluster: t.Cluster()}, []string{one.ID, two.ID}},
		{filter{Cluster: t.Cluster(), UID: one.Owner.UID}, []string{one.ID}},
		{filter{UID: two.Owner.UID}, []string{two.ID}},
		{filter{Cluster: t.Cluster() + "-other"}, nil},
		{filter{Ref: one.ID}, []string{one.ID}},
		{filter{Ref: two.Addresses[0]}, []string{two.ID}},
		{filter{Ref: t.Run + "-nothing"}, nil},
	} {
		got, err := pages[loadBalancer](ctx, t.client, lbs, c.f)
		errs = append(errs, err, sameIDs(c.f, got, c.want))
	}
	return errors.Join(append(errs, t.remove(ctx, path1), t.remove(ctx, path2))...)
}

func sameIDs[T item](f filter, got []T, want []string) error {
	ids := each(got, func(v T) string { r, _ := v.place(); return r.ID })
	slices.Sort(ids)
	if !slices.Equal(ids, slices.Sorted(slices.Values(want))) {
		return fmt.Errorf("?%s lists %q, want %q", f.query(""), ids, want)
	}
	return nil
}

func holdPages(ctx context.Context, t *trial) error {
	var paths, ids []string
	for range 3 {
		_, path, lb, err := t.make(ctx)
		if err != nil {
			return err
		}
		paths, ids = append(paths, path), append(ids, lb.ID)
	}
	f := filter{Cluster: t.Cluster(), Limit: "1"}
	got, err := pages[loadBalancer](ctx, t.client, lbs, f)
	errs := []error{err}
	if err == nil {
		errs = append(errs, sameIDs(f, got, ids), t.firstPage(ctx, f))
	}
	for _, path := range paths {
		errs = append(errs, t.remove(ctx, path))
	}
	return errors.Join(errs...)
}

// firstPage is whether a page has no more than was asked for.
func (t *trial) firstPage(ctx context.Context, f filter) error {
	rep, err := t.call(ctx, http.MethodGet, lbs+"?"+f.query(""), nil, http.StatusOK)
	if err != nil {
		return err
	}
	items, _, err := parseList[loadBalancer](rep.body)
	if err == nil && len(items) > 1 {
		err = fmt.Errorf("a page with limit=1 has %d", len(items))
	}
	return err
}

func holdDelete(ctx context.Context, t *trial) error {
	_, path, gone, err1 := t.make(ctx)
	_, other, before, err2 := t.make(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := t.remove(ctx, path); err != nil {
		return err
	}
	got, err := pages[loadBalancer](ctx, t.client, lbs, filter{Ref: gone.ID})
	if err == nil && len(got) > 0 {
		err = errors.New("GET of the owner's is 404, and the list still has it")
	}
	rep, err2 := t.ready(ctx, other)
	if err2 != nil {
		return errors.Join(err, fmt.Errorf("that of another owner: %w", err2))
	}
	after, err2 := parseLB(rep.body)
	return errors.Join(err, err2, kept(before, after), echoes(after, *before.Spec), t.remove(ctx, other))
}

func holdDeleteTwice(ctx context.Context, t *trial) error {
	_, path, _, err := t.make(ctx)
	if err != nil {
		return err
	}
	return errors.Join(t.remove(ctx, path), t.remove(ctx, path), t.remove(ctx, lbPath(key(t.owner()))))
}

func holdAdoption(ctx context.Context, t *trial) error {
	_, path, lb, err := t.make(ctx)
	if err != nil {
		return err
	}
	if _, err := t.call(ctx, http.MethodDelete, path+"?keep=true", nil, http.StatusNoContent); err != nil {
		return errors.Join(err, t.remove(ctx, path))
	}
	got, err := pages[loadBalancer](ctx, t.client, lbs, filter{Ref: lb.ID})
	switch {
	case err != nil:
		return err
	case len(got) != 1:
		return fmt.Errorf("after it was let go of there are %d of the ID %s", len(got), quote(lb.ID))
	}
	heir, stranger := t.owner(), ownerOut(t.owner())
	ask := adoption{Key: key(heir), Owner: ownerOut(heir)}
	var errs []error
	if got[0].Owner != nil {
		errs = append(errs, fmt.Errorf("after it was let go of its owner is %+v", *got[0].Owner))
	}
	wrong := ask
	wrong.Previous = &stranger
	adopt := lbPath(lb.ID) + "/adopt"
	errs = append(errs, t.refused(ctx, http.MethodPost, adopt, wrong, http.StatusConflict))
	for range 2 {
		_, err := t.call(ctx, http.MethodPost, adopt, ask, http.StatusOK)
		errs = append(errs, err)
	}
	after, err := t.put(ctx, lbPath(key(heir)), t.want(heir))
	errs = append(errs, err, kept(lb, after), t.refused(ctx, http.MethodGet, path, nil, http.StatusNotFound))
	if err != nil {
		errs = append(errs, fmt.Errorf("%s may be left behind, as nobody's: delete it by hand", quote(lb.ID)))
	}
	if !after.Adopted {
		errs = append(errs, errors.New("it is not shown as adopted"))
	}
	return errors.Join(append(errs, t.remove(ctx, lbPath(key(heir))))...)
}
