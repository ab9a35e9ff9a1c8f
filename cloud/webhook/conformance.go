package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// Trial is what a server is tried with.
type Trial struct {
	URL, Token string
	HTTP       *http.Client // nil for the default
	// Run tells apart what this run makes from all else: letters and digits.
	Run string
	// Targets are two machines that the server knows.
	Targets        [2]cloud.Target
	Type, Location string        // empty for the server's default
	Wait           time.Duration // for the server to finish a change
}

// Cluster is the ID of the cluster that the trial pretends to be.
func (t Trial) Cluster() string { return "herald-conformance-" + t.Run }

// A Check is one promise of the protocol, and whether it was kept.
type Check struct {
	Name    string
	Skipped string // why it was not tried; empty if it was
	Wrong   error  // nil if it holds
}

// A promise is what a server has to keep to. Hold makes what it needs under
// owners of its own.
type promise struct {
	name  string
	needs func(*trial) string // why it cannot be tried; nil for always
	hold  func(context.Context, *trial) error
}

// trial is a Trial that has begun.
type trial struct {
	Trial
	client *client
	can    capabilities
	owners int // that have been made up
}

// Conform tries a server and says of each promise whether it keeps it. Whatever it
// makes there it deletes again, and touches nothing else. An error says that
// nothing could be tried.
func Conform(ctx context.Context, how Trial) ([]Check, error) {
	c, err := newClient(how.URL, func() (string, error) { return how.Token, nil }, how.HTTP)
	if err != nil {
		return nil, err
	}
	t := &trial{Trial: how, client: c}
	rep, err := t.call(ctx, http.MethodGet, "/v1", nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	s, err := parseServer(rep.body)
	if err != nil {
		return []Check{{Name: "capabilities", Wrong: err}}, nil
	}
	t.can = s.Capabilities
	out := []Check{{Name: "capabilities"}}
	for _, p := range slices.Concat(general, ofLoadBalancers, ofAddresses) {
		if ctx.Err() == nil {
			out = append(out, t.try(ctx, p))
		}
	}
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.Wait+patience)
	defer cancel()
	return append(out, Check{Name: "nothing is left behind", Wrong: t.clean(rest)}), nil
}

func (t *trial) try(ctx context.Context, p promise) Check {
	if p.needs != nil {
		if why := p.needs(t); why != "" {
			return Check{Name: p.name, Skipped: why}
		}
	}
	return Check{Name: p.name, Wrong: p.hold(ctx, t)}
}

// general is what holds for all that a server answers.
var general = []promise{
	{"a path that is not there is 404, with an error to read", nil, func(ctx context.Context, t *trial) error {
		return t.refused(ctx, http.MethodGet, "/v1/nothing-of-this-name", nil, http.StatusNotFound)
	}},
	{"a wrong token is 401, with an error to read", func(t *trial) string {
		if t.Token == "" {
			return "no token was given"
		}
		return ""
	}, func(ctx context.Context, t *trial) error {
		other := *t
		wrong := *t.client
		wrong.token = func() (string, error) { return "not-" + t.Token, nil }
		other.client = &wrong
		return other.refused(ctx, http.MethodGet, "/v1", nil, http.StatusUnauthorized, http.StatusForbidden)
	}},
}

// owner makes up a Service.
func (t *trial) owner() cloud.Owner {
	t.owners++
	return cloud.Owner{Cluster: t.Cluster(), UID: types.UID(fmt.Sprintf("%s-%04d", t.Run, t.owners)), Namespace: "conformance", Name: fmt.Sprintf("service-%d", t.owners)}
}

// call makes a request. A status that was not asked for is an error.
func (t *trial) call(ctx context.Context, method, path string, body any, statuses ...int) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, t.client.patience)
	defer cancel()
	token, err := t.client.token()
	if err != nil {
		return reply{}, err
	}
	r := request{Method: method, Path: path, Body: body}
	rep, err := t.client.send(ctx, r, token)
	if err == nil && !slices.Contains(statuses, rep.status) {
		err = fmt.Errorf("%s: status is %d %s, want one of %v", r, rep.status, short(string(rep.body), 200), statuses)
	}
	return rep, err
}

// refused wants an error of one of statuses that says why.
func (t *trial) refused(ctx context.Context, method, path string, body any, statuses ...int) error {
	rep, err := t.call(ctx, method, path, body, statuses...)
	if err != nil {
		return err
	}
	var f failure
	if err := decode(rep.body, &f); err != nil || f.Code == "" || f.Message == "" {
		return fmt.Errorf("%s %s: status %d has the body %s, want an object with code and message", method, path, rep.status, quote(string(rep.body)))
	}
	return nil
}

// ready waits until what is at path is ready, and returns how it was shown last.
func (t *trial) ready(ctx context.Context, path string) (reply, error) {
	for end := time.Now().Add(t.Wait); ; {
		rep, err := t.call(ctx, http.MethodGet, path, nil, http.StatusOK)
		if err != nil {
			return reply{}, err
		}
		res, err := parseResource(path, rep.body)
		switch {
		case err != nil:
			return reply{}, fmt.Errorf("GET %s: %w", path, err)
		case res.State == string(cloud.Ready):
			return rep, nil
		case res.State != "pending":
			return reply{}, fmt.Errorf("GET %s: state is %s: %s", path, res.State, short(res.Message, 200))
		}
		if err := t.pause(ctx, res.after(), end); err != nil {
			return reply{}, fmt.Errorf("waiting for %s to be ready: %w", path, err)
		}
	}
}

// remove deletes what is at path, and waits until it is gone.
func (t *trial) remove(ctx context.Context, path string) error {
	rep, err := t.call(ctx, http.MethodDelete, path, nil, http.StatusNoContent, http.StatusAccepted, http.StatusNotFound)
	if err != nil {
		return err
	}
	for end := time.Now().Add(t.Wait); ; {
		got, err := t.call(ctx, http.MethodGet, path, nil, http.StatusOK, http.StatusNotFound)
		switch {
		case err != nil:
			return err
		case got.status == http.StatusNotFound:
			return nil
		case rep.status != http.StatusAccepted:
			return fmt.Errorf("DELETE %s: status is %d, and then it is still there", path, rep.status)
		}
		res, err := parseResource(path, got.body)
		if err != nil {
			return err
		}
		if err := t.pause(ctx, res.after(), end); err != nil {
			return fmt.Errorf("waiting for %s to be gone: %w", path, err)
		}
	}
}

// pause waits as long as the server says, and not past the end; a tenth of Wait at
// the most, for one that says too long a time is not to be taken for too slow.
func (t *trial) pause(ctx context.Context, d time.Duration, end time.Time) error {
	if time.Now().After(end) {
		return errors.New("it takes too long")
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(max(min(d, t.Wait/10), 50*time.Millisecond)):
		return nil
	}
}

// clean deletes all that the trial has made and that is still there.
func (t *trial) clean(ctx context.Context) error {
	mine := filter{Cluster: t.Cluster()}
	var errs []error
	if t.can.LoadBalancers {
		lbs, err := pages[loadBalancer](ctx, t.client, "/v1/loadbalancers", mine)
		errs = append(errs, err)
		for _, lb := range lbs {
			errs = append(errs, t.remove(ctx, lbPath(key(ownerIn(lb.Owner)))))
		}
	}
	if t.can.Addresses {
		addrs, err := pages[address](ctx, t.client, "/v1/addresses", mine)
		errs = append(errs, err)
		for _, a := range addrs {
			errs = append(errs, t.remove(ctx, addressPath(addressKey(ownerIn(a.Owner), a.Family))))
		}
	}
	return errors.Join(errs...)
}

// want returns a load balancer that the server says it can make.
func (t *trial) want(o cloud.Owner) lbRequest {
	protocol := corev1.ProtocolTCP
	if len(t.can.Protocols) > 0 {
		protocol = corev1.Protocol(t.can.Protocols[0])
	}
	families := t.can.in().Families
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	l := cloud.Listener{Protocol: protocol, Port: 80, NodePort: 30080, Health: cloud.HealthCheck{Port: 30080, Interval: 15 * time.Second, Timeout: 10 * time.Second, Retries: 3}}
	spec := cloud.LBSpec{Owner: o, Type: t.Type, Location: t.Location, Families: families, Listeners: []cloud.Listener{l}, Targets: t.Targets[:1]}
	return lbRequest{Owner: ownerOut(o), Spec: specOut(spec)}
}

// DefaultTargets are machines that no cloud knows, for servers that do not ask.
func DefaultTargets() [2]cloud.Target {
	machine := func(name, addr string) cloud.Target {
		return cloud.Target{Node: name, Instance: cloud.Instance{ID: name, Name: name}, Addr: netip.MustParseAddr(addr)}
	}
	return [2]cloud.Target{machine("conformance-1", "192.0.2.1"), machine("conformance-2", "192.0.2.2")}
}
