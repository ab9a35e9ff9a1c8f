// Package hetzner simulates the Hetzner Cloud API, for tests: load balancers,
// floating and primary IPs, servers, networks, actions and prices.
//
// It owns the state of one project, and answers as the API does, with its
// errors, its locks, its paging and its rate limit. What a client cannot see
// of the real cloud is to be had from it, too: what everything costs, every
// request that came, which server an address was delivered to and since when.
// It never forwards a packet, and starts no goroutine: actions end when the
// clock is found to be past their time.
//
// A [Cloud] is an http.Handler without a base path: what the API serves as
// https://api.hetzner.cloud/v1/servers is /servers here.
package hetzner

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// DefaultToken is what clients must send if Options name no other.
const DefaultToken = "a-token-that-nobody-may-ever-log"

// Options of a Cloud. The zero value is a cloud that does everything at once.
type Options struct {
	Token         string        // DefaultToken if empty
	ReadOnlyToken string        // may only GET; none if empty
	Clock         Clock         // the machine's if nil
	Latency       time.Duration // how long each action runs
	RateLimit     int           // requests in an hour, and burst; 3600 if 0

	// UnassignFirst makes assigning a floating IP that is assigned an error,
	// as the API's documentation says, where its users see it moved.
	UnassignFirst bool
}

// A Cloud is one project. Its methods are for tests: what a person does in the
// console, or sees on the bill.
type Cloud struct {
	mu     sync.Mutex // guards all below
	opts   Options
	clock  Clock
	lastID int64
	hosts  int // addresses given out

	balancers map[int64]*balancer
	floating  map[int64]*floatingIP
	primary   map[int64]*primaryIP
	servers   map[int64]*server
	networks  map[int64]*network
	actions   map[int64]*action

	types      []balancerType
	limits     map[Kind]int
	robotIPs   map[netip.Addr]bool // of dedicated servers of the project's owner
	health     map[string]string   // by server name or IP
	refusals   []*Refusal
	failures   []*failure
	frozen     bool
	bucket     bucket
	journal    []Entry
	meter      []Charge
	deliveries []Delivery
}

// New returns an empty project.
func New(o Options) *Cloud {
	if o.Token == "" {
		o.Token = DefaultToken
	}
	if o.Clock == nil {
		o.Clock = machineClock{}
	}
	if o.RateLimit == 0 {
		o.RateLimit = 3600
	}
	return &Cloud{
		opts: o, clock: o.Clock, lastID: 1000,
		balancers: map[int64]*balancer{}, floating: map[int64]*floatingIP{}, primary: map[int64]*primaryIP{},
		servers: map[int64]*server{}, networks: map[int64]*network{}, actions: map[int64]*action{},
		types: balancerTypes(), limits: map[Kind]int{}, robotIPs: map[netip.Addr]bool{}, health: map[string]string{},
		bucket: newBucket(o.RateLimit, o.Clock.Now()),
	}
}

// A call is one request that is being answered.
type call struct {
	*http.Request
	body []byte
	ids  []int64 // the numbers in its path, in order
}

// decode reads the body, if there is any.
func (r *call) decode(into any) error {
	if len(bytes.TrimSpace(r.body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		return errorf(codeJSON, "invalid JSON in request: %s", err)
	}
	return nil
}

// A reply is what a handler answers. A nil body is none at all.
type reply struct {
	status int
	body   any
}

// ServeHTTP implements http.Handler. Requests are answered one at a time.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the client is gone: it gets no answer, and has changed nothing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	answer, err := c.answer(w.Header(), &call{Request: req, body: body})
	if err != nil {
		answer = errorReply(err)
	}
	c.record(req, body, answer.status)
	if answer.body == nil {
		w.WriteHeader(answer.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.status)
	_, _ = w.Write(render(answer.body)) // fails if the client is gone
}

// answer is what stands before every handler: who asks, how often, for what.
func (c *Cloud) answer(header http.Header, r *call) (reply, error) {
	if err := c.authorize(r.Request); err != nil {
		return reply{}, err
	}
	if err := c.spend(header); err != nil {
		return reply{}, err
	}
	if err := c.refused(r.Request); err != nil {
		return reply{}, err
	}
	handle, ids := route(r.Method, r.URL.Path)
	if handle == nil {
		return reply{}, errorf(codeNotFound, "there is no %s %s", r.Method, r.URL.Path)
	}
	r.ids = ids
	answer, err := handle(c, r)
	if p, ok := answer.body.(page); ok && err == nil {
		header.Set("Link", p.links(r.Request))
	}
	return answer, err
}

func (c *Cloud) authorize(r *http.Request) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case ok && token == c.opts.Token:
		return nil
	case !ok || token == "" || token != c.opts.ReadOnlyToken:
		return errorf(codeUnauthorized, "unable to authenticate")
	case r.Method != http.MethodGet:
		return errorf(codeForbidden, "the token is only allowed to perform GET requests")
	}
	return nil
}

func (c *Cloud) nextID() int64 {
	c.lastID++
	return c.lastID
}

func (c *Cloud) now() time.Time { return c.clock.Now().UTC().Truncate(time.Microsecond) }
