package webhook

import (
	"context"
	"fmt"
	"net/http"
)

// maxPages bounds a list: nobody has 50,000 pages of load balancers.
const maxPages = 1000

type item interface {
	check() error
	// place is which one it is, and in whose place there can be no other.
	place() (resource, string)
}

func (lb loadBalancer) place() (resource, string) { return lb.resource, ownerPlace(lb.Owner, "") }

func (a address) place() (resource, string) { return a.resource, ownerPlace(a.Owner, a.Family) }

func ownerPlace(o *owner, family string) string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("%q %q %s", o.Cluster, o.UID, family)
}

// pages reads a list to its end. It is all of it or an error: what is in the
// list twice, or a page that leads back, says that something else is missing.
func pages[T item](ctx context.Context, c *client, path string, f filter) ([]T, error) {
	var out []T
	ids, places, tokens := map[string]bool{}, map[string]bool{}, map[string]bool{}
	page := ""
	for range maxPages {
		r := request{Method: http.MethodGet, Path: path}
		if q := f.query(page); q != "" {
			r.Path += "?" + q
		}
		got, err := c.do(ctx, r)
		if err != nil {
			return nil, err
		}
		items, next, err := parseList[T](got.body)
		if err != nil {
			return nil, malformed(r, err)
		}
		for _, it := range items {
			if err := admit(it, f, ids, places); err != nil {
				return nil, malformed(r, err)
			}
		}
		out = append(out, items...)
		if next == "" {
			return out, nil
		}
		if tokens[next] || len(next) > 1024 {
			return nil, malformed(r, fmt.Errorf("next page %s leads in a circle, or is longer than 1024 characters", quote(next)))
		}
		tokens[next], page = true, next
	}
	return nil, malformed(request{Method: http.MethodGet, Path: path}, fmt.Errorf("there are more than %d pages", maxPages))
}

// admit notes an item, if it may be in the list.
func admit(it item, f filter, ids, places map[string]bool) error {
	r, place := it.place()
	switch err := f.check(r); {
	case err != nil:
		return err
	case ids[r.ID]:
		return fmt.Errorf("%s is in the list twice", quote(r.ID))
	case place != "" && places[place]:
		return fmt.Errorf("%s is a second one of its owner, who can have one", quote(r.ID))
	}
	ids[r.ID], places[place] = true, true
	return nil
}
