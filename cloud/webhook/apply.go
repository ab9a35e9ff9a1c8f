package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/herald-lb/herald/cloud"
)

// Apply implements [cloud.Driver].
func (d *Driver) Apply(ctx context.Context, s cloud.Step) (cloud.Pending, error) {
	c, ok := s.Payload.(call)
	if !ok {
		return cloud.Pending{}, cloud.Refuse("", "webhook: %s is no step of this driver", s)
	}
	got, err := d.client.do(ctx, c.request)
	switch {
	case c.Method == http.MethodDelete && cloud.Is(err, cloud.NotFound):
		return cloud.Pending{}, nil
	case err != nil:
		return cloud.Pending{}, err
	case c.Method == http.MethodDelete && got.status != http.StatusAccepted:
		return cloud.Pending{}, nil
	case c.Method == http.MethodDelete:
		return c.pending(s.ID, resource{}), nil
	}
	lb, err := parseLB(got.body)
	if err != nil {
		return cloud.Pending{}, malformed(c.request, err)
	}
	return c.outcome(lb.resource)
}

// outcome is what an answer with a resource says of a change.
func (c call) outcome(r resource) (cloud.Pending, error) {
	if !ownerIn(r.Owner).Same(c.owner) {
		return cloud.Pending{}, &cloud.Error{Class: cloud.Conflict, Reason: "OwnershipConflict",
			Text: fmt.Sprintf("webhook: %s: the server answers with %s, whose owner is another", c.request, quote(r.ID))}
	}
	switch {
	case c.want == done || r.State == string(cloud.Ready):
		return cloud.Pending{}, nil
	case r.State == string(cloud.Failed):
		return cloud.Pending{}, failed(r)
	}
	return c.pending(r.ID, r), nil
}

// pending is for a change of which the goal, and where to ask, is all there is to
// know.
func (c call) pending(id string, r resource) cloud.Pending {
	path, _, _ := strings.Cut(c.Path, "?")
	return cloud.Pending{ID: string(c.want) + " " + path, Resource: id, After: r.after()}
}

func failed(r resource) error {
	said := r.Message
	if said == "" {
		said = "without an explanation"
	}
	return cloud.Refuse("", "webhook: the server has given up on %s: %s", quote(r.ID), short(said, 300))
}

// Poll implements [cloud.Driver]: by one GET for each path.
func (d *Driver) Poll(ctx context.Context, all []cloud.Pending) ([]cloud.Pending, error) {
	var left []cloud.Pending
	var errs []error
	asked := map[string]bool{}
	for _, p := range all {
		if asked[p.ID] {
			continue
		}
		asked[p.ID] = true
		still, err := d.look(ctx, p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if still != nil {
			left = append(left, *still)
		}
	}
	return left, errors.Join(errs...)
}

// look returns p as it is now, or nil if it is finished.
func (d *Driver) look(ctx context.Context, p cloud.Pending) (*cloud.Pending, error) {
	want, path, _ := strings.Cut(p.ID, " ")
	if !strings.HasPrefix(path, "/v1/") {
		return nil, cloud.Refuse("", "webhook: %s is no change of this driver", quote(p.ID))
	}
	r := request{Method: http.MethodGet, Path: path}
	got, err := d.client.do(ctx, r)
	if cloud.Is(err, cloud.NotFound) && goal(want) == gone {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	res, err := parseResource(path, got.body)
	if err != nil {
		return nil, malformed(r, err)
	}
	p.After = res.after()
	switch {
	case res.State == string(cloud.Failed):
		return nil, failed(res)
	case goal(want) == serves && res.State == string(cloud.Ready):
		return nil, nil
	}
	return &p, nil
}

func parseResource(path string, body []byte) (resource, error) {
	if strings.HasPrefix(path, "/v1/addresses/") {
		a, err := parseAddress(body)
		return a.resource, err
	}
	lb, err := parseLB(body)
	return lb.resource, err
}
