package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
)

// What the engine promises it keeps with this driver, and a server in Python.
func TestEngine(t *testing.T) {
	run := func(t *testing.T, promise func(*testing.T, *cloudtest.World)) {
		w := newWire(t, sample(t))
		synctest.Test(t, func(t *testing.T) { promise(t, cloudtest.NewWorld(lab(t, w))) })
	}
	cloudtest.Promises(t, run)
	cloudtest.AddressPromises(t, run)
}

// A wire leads to a server from time that is made up, which stands still while one waits
// for a network. Its other end, in real time, makes the calls, one after another.
type wire struct {
	asked    chan *http.Request
	answered chan *http.Response
	base     string

	fault         func(call string, after bool) error
	spoiled       *chaos.Proxy
	reads, writes atomic.Int32
}

func newWire(t *testing.T, base string) *wire {
	w := &wire{asked: make(chan *http.Request), answered: make(chan *http.Response), base: base}
	w.spoiled = chaos.New(http.HandlerFunc(w.forward))
	judge := &referee{t: t, next: http.DefaultTransport}
	t.Cleanup(func() { close(w.asked) })
	go func() {
		for r := range w.asked {
			resp, err := judge.RoundTrip(r)
			if err != nil {
				t.Errorf("%s %s: %v", r.Method, r.URL, err)
				resp = nil
			}
			w.answered <- resp
		}
	}()
	return w
}

// call asks the server and reads all of its answer.
func (w *wire) call(method, path string, header http.Header, body []byte) (*http.Response, error) {
	r, err := http.NewRequest(method, w.base+path, bytes.NewReader(body)) // without a context: it would end in another time
	if err != nil {
		return nil, err
	}
	r.Header = header
	w.asked <- r
	resp := <-w.answered
	if resp == nil {
		return nil, errors.New("there is no answer")
	}
	return resp, nil
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	n := &w.writes
	if r.Method == http.MethodGet {
		n = &w.reads
	}
	n.Add(1)
	fault := w.fault
	if fault == nil {
		fault = func(string, bool) error { return nil }
	}
	if err := fault(r.URL.Path, false); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	w.spoiled.ServeHTTP(answer, r)
	if answer.Code < 400 {
		if err := fault(r.URL.Path, true); err != nil {
			return nil, err
		}
	}
	return answer.Result(), nil
}

// forward answers with what the server does; with a 502 if that is nothing.
func (w *wire) forward(to http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // it has been read before
	resp, err := w.call(r.Method, r.URL.RequestURI(), r.Header, body)
	if err != nil {
		to.WriteHeader(http.StatusBadGateway)
		return
	}
	maps.Copy(to.Header(), resp.Header)
	to.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(to, resp.Body) // of a recorder
}

func lab(t *testing.T, w *wire) *cloudtest.Lab {
	d, err := Open(cloud.Config{Provider: "webhook", Endpoint: w.base}, cloud.Env{HTTP: &http.Client{Transport: w}})
	if err != nil {
		t.Fatal(err)
	}
	p := people{t, w}
	return &cloudtest.Lab{
		Driver: d,
		Calls:  func() (int, int) { return int(w.reads.Load()), int(w.writes.Load()) },
		Fault:  func(f func(string, bool) error) { w.fault = f },
		Hide: func(after int) {
			if w.spoiled.Calm(); after >= 0 {
				w.spoiled.Add(chaos.Rule{Method: http.MethodGet, Skip: after, Times: 1, Do: chaos.EmptyList})
			}
		},
		All: p.all, Add: p.add, Drop: p.drop, Poke: p.poke,
		Addresses: p.addresses, AddAddress: p.addAddress, Reroute: p.reroute,
		Remarks: "the protocol gives an address to no other owner",
		Node:    func(i int) *corev1.Node { return cloudtest.Node(fmt.Sprint("n", i), fmt.Sprint("10.0.0.", i)) },
	}
}

// people do by the protocol what others do in a console.
type people struct {
	t *testing.T
	w *wire
}

func (p people) ask(method, path string, body any) []byte {
	p.t.Helper()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			p.t.Fatal(err)
		}
	}
	resp, err := p.w.call(method, path, http.Header{"Content-Type": {"application/json"}}, text)
	if err != nil || resp.StatusCode >= 400 {
		p.t.Fatalf("%s %s: %v, %v", method, path, resp, err)
	}
	return drain(p.t, resp.Body)
}

func (p people) list() []loadBalancer {
	items, _, err := parseList[loadBalancer](p.ask(http.MethodGet, "/v1/loadbalancers?limit=500", nil))
	if err != nil {
		p.t.Fatal(err)
	}
	return items
}

func (p people) all() (all []cloud.Found) {
	for _, lb := range p.list() {
		all = append(all, lb.found())
	}
	return all
}

// add makes a load balancer that is nobody's.
func (p people) add(name string) string {
	o := owner{Cluster: "people", UID: name}
	spec := lbSpec{Name: name, Families: []string{"IPv4"}, Listeners: []listener{}, Targets: []target{}}
	lb, err := parseLB(p.ask(http.MethodPut, lbPath("people."+name), lbRequest{Owner: o, Spec: spec}))
	if err != nil {
		p.t.Fatal(err)
	}
	p.ask(http.MethodDelete, lbPath("people."+name)+"?keep=true", nil)
	return lb.ID
}

func (p people) one(id string) loadBalancer {
	for _, lb := range p.list() {
		if lb.ID == id {
			return lb
		}
	}
	p.t.Fatalf("there is no %s", id)
	return loadBalancer{}
}

// drop deletes a load balancer, by its owner's path; for nobody's one is made up.
func (p people) drop(id string) {
	lb := p.one(id)
	if lb.Owner == nil {
		lb.Owner = &owner{Cluster: "people", UID: "u" + id}
		p.ask(http.MethodPost, lbPath(id)+"/adopt", adoption{Key: key(ownerIn(lb.Owner)), Owner: *lb.Owner})
	}
	p.ask(http.MethodDelete, lbPath(key(ownerIn(lb.Owner))), nil)
}

// poke takes a target away.
func (p people) poke(id string) {
	lb := p.one(id)
	lb.Spec.Targets = lb.Spec.Targets[1:]
	p.ask(http.MethodPut, lbPath(key(ownerIn(lb.Owner))), lbRequest{Owner: *lb.Owner, Spec: *lb.Spec})
}

func (p people) addresses() []cloud.FoundAddress {
	items, _, err := parseList[address](p.ask(http.MethodGet, "/v1/addresses?limit=500", nil))
	if err != nil {
		p.t.Fatal(err)
	}
	if len(items) == 0 {
		return nil
	}
	return each(items, address.routed)
}

// addAddress reserves an address that is nobody's.
func (p people) addAddress(name string) cloud.FoundAddress {
	o := owner{Cluster: "people", UID: name}
	path := addressPath("people." + name + ".IPv4")
	a, err := parseAddress(p.ask(http.MethodPut, path, addressRequest{Owner: o, Name: name, Family: "IPv4"}))
	if err != nil {
		p.t.Fatal(err)
	}
	p.ask(http.MethodDelete, path+"?keep=true", nil)
	a.Owner = nil
	return a.routed()
}

func (p people) reroute(id string, to cloud.Instance) {
	p.ask(http.MethodPost, "/v1/addresses/"+id+"/assign", assignment{to.ID})
}
