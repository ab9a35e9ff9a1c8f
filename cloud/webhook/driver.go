package webhook

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"github.com/herald-lb/herald/cloud"
)

// variable is the environment variable of the token, without tokenFile.
const variable = "HERALD_WEBHOOK_TOKEN"

func init() { cloud.Register("webhook", Open) }

// Driver asks a server for load balancers and addresses.
type Driver struct {
	client *client
	// can is what the server has said that it can do, or nil.
	can atomic.Pointer[capabilities]
}

var _ cloud.Driver = (*Driver)(nil)

// Open returns the driver of a configuration. It calls nobody.
func Open(c cloud.Config, env cloud.Env) (cloud.Driver, error) { return open(c, env) }

func open(c cloud.Config, env cloud.Env) (*Driver, error) {
	if strings.Contains(c.ClusterID, "/") {
		return nil, fmt.Errorf("the cloud's configuration: clusterID %q: the webhook takes none with a slash", c.ClusterID)
	}
	token := func() (string, error) {
		if c.TokenFile == "" && os.Getenv(variable) == "" {
			return "", nil // a server on localhost needs none
		}
		return c.Token(variable)
	}
	cl, err := newClient(c.Endpoint, token, env.HTTP)
	if err != nil {
		return nil, fmt.Errorf("the cloud's configuration: endpoint: %w", err)
	}
	return &Driver{client: cl}, nil
}

// Capabilities implements [cloud.Driver].
func (d *Driver) Capabilities(ctx context.Context) (cloud.Capabilities, error) {
	c, err := d.capabilities(ctx)
	return c.in(), err
}

func (d *Driver) capabilities(ctx context.Context) (capabilities, error) {
	if c := d.can.Load(); c != nil {
		return *c, nil
	}
	r := request{Method: http.MethodGet, Path: "/v1"}
	got, err := d.client.do(ctx, r)
	if err != nil {
		return capabilities{}, err
	}
	s, err := parseServer(got.body)
	if err != nil {
		return capabilities{}, malformed(r, err)
	}
	d.can.Store(&s.Capabilities)
	return s.Capabilities, nil
}

// Find implements [cloud.Driver].
func (d *Driver) Find(ctx context.Context, o cloud.Owner) ([]cloud.Found, error) {
	if o.Cluster == "" || o.UID == "" {
		return nil, cloud.Refuse("", "webhook: finding what is of %s: it has no cluster or no UID", o.Key())
	}
	return d.all(ctx, filter{Cluster: o.Cluster, UID: string(o.UID)})
}

// List implements [cloud.Driver].
func (d *Driver) List(ctx context.Context, cluster string) ([]cloud.Found, error) {
	if cluster == "" {
		return nil, cloud.Refuse("", "webhook: listing what is there: no cluster is named")
	}
	return d.all(ctx, filter{Cluster: cluster})
}

// Lookup implements [cloud.Driver].
func (d *Driver) Lookup(ctx context.Context, ref string) (cloud.Found, error) {
	if ref == "" || len(ref) > 255 {
		return cloud.Found{}, cloud.Refuse("", "webhook: %s is neither an ID nor a name nor an address", quote(ref))
	}
	found, err := d.all(ctx, filter{Ref: ref})
	switch {
	case err != nil:
		return cloud.Found{}, err
	case len(found) == 0:
		return cloud.Found{}, &cloud.Error{Class: cloud.NotFound, Text: fmt.Sprintf("webhook: nothing is called %s", quote(ref))}
	case len(found) > 1:
		return cloud.Found{}, &cloud.Error{Class: cloud.Conflict, Text: fmt.Sprintf("webhook: more than one %s is called %s: use an ID", found[0].Kind, quote(ref))}
	}
	return found[0], nil
}

// all returns the load balancers that pass a filter; none of a server that has none.
func (d *Driver) all(ctx context.Context, f filter) ([]cloud.Found, error) {
	can, err := d.capabilities(ctx)
	if err != nil || !can.LoadBalancers {
		return nil, err
	}
	lbs, err := pages[loadBalancer](ctx, d.client, "/v1/loadbalancers", f)
	if err != nil {
		return nil, err
	}
	return each(lbs, func(lb loadBalancer) cloud.Found {
		found := lb.found()
		found.Raw = seen{lb: lb, adoption: can.Adoption}
		return found
	}), nil
}

// filter is what of a list is asked for.
type filter struct {
	Cluster, UID, Ref string
	Limit             string
}

func (f filter) query(page string) string {
	q := url.Values{}
	for name, v := range map[string]string{"cluster": f.Cluster, "uid": f.UID, "ref": f.Ref, "limit": f.Limit, "page": page} {
		if v != "" {
			q.Set(name, v)
		}
	}
	return q.Encode() // sorted
}

// check is whether an item is one of those that were asked for: a server that
// ignores filters would have one Service take what is another's.
func (f filter) check(r resource) error {
	var o owner
	if r.Owner != nil {
		o = *r.Owner
	}
	if f.Cluster != "" && o.Cluster != f.Cluster || f.UID != "" && o.UID != f.UID {
		return fmt.Errorf("%s is of cluster %s and uid %s, for which was not asked", quote(r.ID), quote(o.Cluster), quote(o.UID))
	}
	return nil
}
