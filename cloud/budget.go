package cloud

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Lane is for what a call is made. Lanes that can wait leave the rest of the
// budget to those that cannot.
type Lane int

// Lanes, the most urgent first.
const (
	Failover Lane = iota // an address is dark
	Deletion             // something is paid for that nobody wants
	Creation
	Updating
	Drifting // nobody has asked
	Collecting
	lanes
)

var laneNames = [lanes]string{"failover", "delete", "create", "update", "drift", "gc"}

func (l Lane) String() string { return laneNames[l] }

// leaves is what a lane leaves of the budget, in percent, beside the reserve for
// failover.
var leaves = [lanes]float64{0, 0, 2, 5, 20, 40}

// together is how much of the budget a lane that has run dry waits for, in percent, and
// how many calls at least.
const together, togetherLeast = 2, 20

type laneKey struct{}

// WithLane says for what calls are made.
func WithLane(ctx context.Context, l Lane) context.Context {
	return context.WithValue(ctx, laneKey{}, l)
}

func laneOf(ctx context.Context) Lane {
	if l, ok := ctx.Value(laneKey{}).(Lane); ok {
		return l
	}
	return Updating
}

// How long nobody calls an API that does not want to be called.
const (
	pauseLimited  = 10 * time.Second // but for failover
	pauseFailover = time.Second
	pauseDry      = 10 * time.Second // at least, but for failover
	pauseAuth     = time.Minute
	pauseRenewal  = 10 * time.Second // before it, for a token to be renewed
	pauseMax      = time.Hour
)

// A Budget bounds the calls to one API, and rests when the API asks for it. It is
// an http.RoundTripper: all calls go through it.
type Budget struct {
	next    http.RoundTripper
	counted func(op, code string, l Lane) // after each call

	mu       sync.Mutex
	perHour  float64
	reserve  float64
	left     float64
	at       time.Time   // when left was so
	limited  time.Time   // nobody but failover calls before
	failover time.Time   // nobody at all
	refused  time.Time   // the token was not accepted: one call a minute
	login    time.Time   // what a token is had for was not accepted: one login a minute
	ended    string      // the last token that was not accepted where tokens end, and others follow; none since has been
	endedAt  time.Time   // when it was so first
	renewed  time.Time   // when a token was had last
	dry      [lanes]bool // they wait until there is enough
}

// NewBudget bounds what goes to next. It begins full.
func NewBudget(c BudgetConfig, next http.RoundTripper, counted func(op, code string, l Lane)) *Budget {
	perHour := float64(c.RequestsPerHour)
	return &Budget{next: next, counted: counted, perHour: perHour, left: perHour,
		reserve: perHour * float64(c.ReserveForFailover) / 100, at: time.Now()}
}

// RoundTrip makes one call, if it may be made now.
func (b *Budget) RoundTrip(r *http.Request) (*http.Response, error) {
	l := laneOf(r.Context())
	if err := b.take(r, l); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	resp, err := b.next.RoundTrip(r)
	code := "none"
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
		b.heed(r, resp)
		err = redact(r, resp)
	}
	if b.counted != nil {
		b.counted(operation(r), code, l)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// operation names a call without what differs from resource to resource.
func operation(r *http.Request) string {
	text := []byte(r.Method + " ")
	for i := 0; i < len(r.URL.Path); {
		j := i + 1
		for j < len(r.URL.Path) && r.URL.Path[j] != '/' {
			j++
		}
		if part := r.URL.Path[i:j]; isID(part[1:]) {
			text = append(text, "/:id"...)
		} else {
			text = append(text, part...)
		}
		i = j
	}
	return string(text)
}

// isID is whether a part of a path names one resource: a number, a UUID or the like.
func isID(part string) bool {
	digits := 0
	for _, c := range part {
		if c >= '0' && c <= '9' {
			digits++
		}
	}
	return digits > 0 && digits == len(part) || len(part) >= 32
}

// tokenHeader bears a token of OpenStack's, which ends within hours: that it is not
// accepted is how one finds out, and logs in anew.
const tokenHeader = "X-Auth-Token"

// isLogin is whether a call asks Keystone for a token.
func isLogin(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/auth/tokens")
}

// take takes one call from the budget.
func (b *Budget) take(r *http.Request, l Lane) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.refill(now)
	refused := &b.refused
	if isLogin(r) { // or else nobody could have a token that is accepted
		refused = &b.login
	}
	if wait := refused.Sub(now); wait > 0 {
		return &Error{Class: Auth, Reason: ReasonAuth, After: wait, Text: "the cloud has not accepted the token: it is tried again once a minute", Err: ErrNotAsked}
	}
	until := b.limited
	if l == Failover {
		until = b.failover
	}
	if wait := until.Sub(now); wait > 0 {
		return limited(wait, "the cloud has refused more calls for now")
	}
	keep := 0.0
	if l != Failover {
		keep = b.reserve + (b.perHour-b.reserve)*leaves[l]/100
	}
	if b.left < keep+b.enough(l, keep) {
		b.dry[l] = l != Failover
		wait := time.Duration((keep + b.enough(l, keep) - b.left) / b.perHour * float64(time.Hour))
		if l != Failover {
			wait = max(wait, pauseDry)
		}
		return limited(wait, fmt.Sprintf("the budget of calls to the cloud is used up for lane %s", l))
	}
	b.dry[l] = false
	b.left--
	if !refused.IsZero() { // one call finds out whether the token is good by now
		*refused = now.Add(pauseAuth)
	}
	if !b.limited.IsZero() {
		b.limited = now.Add(pauseLimited)
		b.failover = now.Add(pauseFailover)
	}
	return nil
}

// enough is how many calls there have to be for one. A lane that has run dry waits until
// there are some together: what needs several, as a list does of several pages, would else
// never be done by those who come back for one.
func (b *Budget) enough(l Lane, keep float64) float64 {
	if !b.dry[l] {
		return 1
	}
	return max(min(max(b.perHour*together/100, togetherLeast), b.perHour-keep-1), 1)
}

func limited(wait time.Duration, text string) *Error {
	return &Error{Class: RateLimited, Reason: ReasonRateLimited, After: wait,
		Text: text, Err: ErrNotAsked}
}

func (b *Budget) refill(now time.Time) {
	b.left = min(b.perHour, b.left+b.perHour*now.Sub(b.at).Hours())
	b.at = now
}

// heed takes to heart what an answer says of further calls.
func (b *Budget) heed(r *http.Request, resp *http.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		b.unauthorized(r, now)
		return
	case http.StatusTooManyRequests:
		wait := min(max(retryAfter(resp.Header, now), pauseLimited), pauseMax)
		b.limited, b.failover = now.Add(wait), now.Add(pauseFailover)
		return
	}
	b.limited, b.failover = time.Time{}, time.Time{}
	switch {
	case !isLogin(r):
		if b.refused, b.login = (time.Time{}), (time.Time{}); resp.StatusCode < http.StatusBadRequest {
			b.ended = ""
		}
	case resp.StatusCode < http.StatusBadRequest: // one that fails shows nothing of the token
		b.login, b.renewed = time.Time{}, now
		if !b.refused.IsZero() {
			b.refused = now // one call finds out whether the new one is good
		}
	}
	if left, err := strconv.Atoi(resp.Header.Get("RateLimit-Remaining")); err == nil { // of all that use the project
		b.left = min(b.left, float64(left))
	}
}

// unauthorized has nobody call with a token that is not accepted. One that may have ended
// is given the time to be renewed, unless the one before was just now, and in vain.
func (b *Budget) unauthorized(r *http.Request, now time.Time) {
	if isLogin(r) {
		b.login = now.Add(pauseAuth)
	} else if token := r.Header.Get(tokenHeader); token != "" {
		vain := false
		if token != b.ended {
			vain = b.ended != "" && !b.renewed.Before(b.endedAt) && now.Sub(b.renewed) < pauseAuth
			b.ended, b.endedAt = token, now
		}
		if !vain && now.Sub(b.endedAt) < pauseRenewal {
			return
		}
	}
	b.refused = now.Add(pauseAuth)
}

// retryAfter is for how long an answer asks not to be called: by Retry-After in
// seconds or as a date (RFC 9110 §10.2.3), or by RateLimit-Reset as a time.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if s, err := strconv.Atoi(text); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return t.Sub(now)
	}
	if s, err := strconv.ParseInt(cmp.Or(h.Get("RateLimit-Reset"), "0"), 10, 64); err == nil && s > 1e9 {
		return min(time.Unix(s, 0).Sub(now), time.Minute) // when it is full again: it has some before
	}
	return 0
}

// Left is how many calls may be made now, of all lanes.
func (b *Budget) Left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(time.Now())
	return int(b.left)
}
