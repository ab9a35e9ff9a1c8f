package cloud_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

func asError(err error, why **cloud.Error) bool { return errors.As(err, why) }

// An api answers calls with a code, as long as it does.
type api struct {
	code   int
	header http.Header
	calls  int
}

func (a *api) RoundTrip(*http.Request) (*http.Response, error) {
	a.calls++
	h := a.header
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: a.code, Header: h, Body: http.NoBody}, nil
}

func call(t *testing.T, b *cloud.Budget, l cloud.Lane) error {
	t.Helper()
	r, err := http.NewRequestWithContext(cloud.WithLane(t.Context(), l), http.MethodGet, "http://cloud/v1/things/42", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.RoundTrip(r)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// A keystone answers logins with a code, and is the services as well, which accept the
// last token.
type keystone struct {
	login         int
	vain          bool   // no token is good
	token         string // that is good
	mine          string // that the client has
	logins, calls int
}

func (k *keystone) RoundTrip(r *http.Request) (*http.Response, error) {
	code := http.StatusOK
	switch {
	case strings.HasSuffix(r.URL.Path, "/auth/tokens"):
		k.logins++
		if code = k.login; code == http.StatusCreated {
			k.token = fmt.Sprint("token-", k.logins)
			k.mine = k.token
		}
	default:
		if k.calls++; k.vain || r.Header.Get("X-Auth-Token") != k.token {
			code = http.StatusUnauthorized
		}
	}
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody}, nil
}

// call does what a client does: where its token is not accepted it logs in, and asks again.
func (k *keystone) call(t *testing.T, b *cloud.Budget) error {
	t.Helper()
	k.mine = cmp.Or(k.mine, "token-0")
	send := func(method, path, token string) error {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://cloud"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("X-Auth-Token", token)
		}
		resp, err := b.RoundTrip(r)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode >= http.StatusBadRequest {
			return &cloud.Error{Class: cloud.Conflict, Text: resp.Status} // an answer
		}
		return nil
	}
	err := send(http.MethodGet, "/v2.0/things", k.mine)
	if !cloud.Is(err, cloud.Conflict) {
		return err
	}
	if err := send(http.MethodPost, "/v3/auth/tokens", ""); err != nil {
		return err
	}
	return send(http.MethodGet, "/v2.0/things", k.mine)
}

// eachSecond calls so often, whatever the answers are.
func (k *keystone) eachSecond(t *testing.T, b *cloud.Budget, times int) {
	t.Helper()
	for range times {
		_ = k.call(t, b)
		time.Sleep(time.Second)
	}
}

// An API that says in its answer what it was sent tells nobody else (A5).
func TestSecretsAreNotRepeated(t *testing.T) {
	for header, value := range map[string]string{"Authorization": "Bearer s3cr3t-token", "X-Auth-Token": "s3cr3t-token"} {
		b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, echo{}, nil)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cloud/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(header, value)
		resp, err := b.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || strings.Contains(string(body), "s3cr3t") || !strings.Contains(string(body), "bad token (secret)") || resp.ContentLength != int64(len(body)) {
			t.Errorf("%s: %q, %d bytes, %v", header, body, resp.ContentLength, err)
		}
	}
}

// echo refuses, and says what it was sent.
type echo struct{}

func (echo) RoundTrip(r *http.Request) (*http.Response, error) {
	text := "bad token " + strings.TrimPrefix(r.Header.Get("Authorization")+r.Header.Get("X-Auth-Token"), "Bearer ")
	return &http.Response{StatusCode: 403, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text))}, nil
}

func TestBudget(t *testing.T) {
	all := []cloud.Lane{cloud.Collecting, cloud.Drifting, cloud.Updating, cloud.Creation, cloud.Deletion, cloud.Failover}
	t.Run("the less urgent run dry first, and failover last", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 1000, ReserveForFailover: 25}, &api{code: 200}, nil)
			total := 0
			for i, most := range []int{450, 600, 712, 735, 750, 1000} { // used by then
				for call(t, b, all[i]) == nil {
					total++
				}
				if total < most-2 || total > most+2 {
					t.Errorf("lane %s: %d calls in all, not %d", all[i], total, most)
				}
			}
			time.Sleep(time.Hour)
			if err := call(t, b, cloud.Collecting); err != nil {
				t.Errorf("after an hour: %v", err)
			}
		})
	})
	t.Run("a minute of 429: one call in ten seconds, and then all again (A3, C9)", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &api{code: 429}
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, a, nil)
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				_ = call(t, b, cloud.Updating)
			}
			if a.calls > 7 {
				t.Errorf("%d calls in a minute", a.calls)
			}
			a.code = 200
			time.Sleep(10 * time.Second)
			for range 100 {
				if err := call(t, b, cloud.Updating); err != nil {
					t.Fatalf("when it is over: %v", err)
				}
			}
		})
	})
	t.Run("429 with a time is heeded, but by failover", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &api{code: 429, header: http.Header{"Retry-After": {"40"}}}
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, a, nil)
			_ = call(t, b, cloud.Updating)
			time.Sleep(39 * time.Second)
			var why *cloud.Error
			if err := call(t, b, cloud.Creation); !asError(err, &why) || why.Class != cloud.RateLimited || why.After != time.Second {
				t.Errorf("after 39 s: %v", err)
			}
			if err := call(t, b, cloud.Failover); err != nil || a.calls != 2 {
				t.Errorf("failover: %v, %d calls", err, a.calls)
			}
		})
	})
	t.Run("a token that is not accepted is tried once a minute (A4)", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &api{code: 401}
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, a, nil)
			for range 300 {
				_ = call(t, b, cloud.Failover)
				time.Sleep(time.Second)
			}
			if a.calls != 5 {
				t.Errorf("%d calls in five minutes", a.calls)
			}
			if err := call(t, b, cloud.Updating); err == nil {
				a.code = 200
			}
			time.Sleep(time.Minute)
			if err := call(t, b, cloud.Updating); err != nil {
				t.Errorf("with a good token: %v", err)
			}
			if err := call(t, b, cloud.Updating); err != nil {
				t.Errorf("and again: %v", err)
			}
		})
	})
	t.Run("a token that has ended is renewed, once a minute where logins are refused (A4)", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := &keystone{login: http.StatusUnauthorized}
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, k, nil)
			k.eachSecond(t, b, 300)
			if k.logins != 5 || k.calls != 5 {
				t.Errorf("%d logins and %d calls in five minutes", k.logins, k.calls)
			}
			k.login = http.StatusCreated
			time.Sleep(time.Minute)
			for range 2 {
				if err := k.call(t, b); err != nil {
					t.Errorf("with a good login: %v", err)
				}
			}
			time.Sleep(time.Hour)
			k.token = "another"
			if err := k.call(t, b); err != nil {
				t.Errorf("an hour later: %v", err)
			}
		})
	})
	t.Run("nor is one tried oftener that is renewed in vain (A4)", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := &keystone{login: http.StatusCreated, vain: true}
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, k, nil)
			k.eachSecond(t, b, 300)
			if k.logins != 5 || k.calls != 10 {
				t.Errorf("%d logins and %d calls in five minutes", k.logins, k.calls)
			}
			k.vain = false
			time.Sleep(time.Minute)
			for range 2 {
				if err := k.call(t, b); err != nil {
					t.Errorf("with a good token: %v", err)
				}
			}
		})
	})
	t.Run("nor is one that nobody can renew tried oftener (A4)", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := &keystone{login: http.StatusServiceUnavailable}
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, k, nil)
			k.eachSecond(t, b, 600)
			if k.calls > 21 {
				t.Errorf("%d calls in ten minutes", k.calls)
			}
		})
	})
	t.Run("what others use of the project is not used", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, &api{code: 200, header: http.Header{"Ratelimit-Remaining": {"17"}}}, nil)
			_ = call(t, b, cloud.Updating)
			if left := b.Left(); left != 17 {
				t.Errorf("%d calls left", left)
			}
		})
	})
	t.Run("calls are counted by operation, not by resource", func(t *testing.T) {
		var got string
		b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 3600}, &api{code: 200}, func(op, code string, l cloud.Lane) { got = op + " " + code + " " + l.String() })
		_ = call(t, b, cloud.Drifting)
		if got != "GET /v1/things/:id 200 drift" {
			t.Errorf("counted %q", got)
		}
	})
}

// A paged cloud needs three calls for a list.
type paged struct {
	*cloudtest.Fake
	budget *cloud.Budget
}

func (p paged) List(ctx context.Context, cluster string) ([]cloud.Found, error) {
	for range 3 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://cloud/v1/things", nil)
		if err != nil {
			return nil, err
		}
		resp, err := p.budget.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
	}
	return p.Fake.List(ctx, cluster)
}

// A budget that is used up is left alone until there is enough for a list: those who come
// back all at once for one call each would never see the end of it.
func TestASpentBudgetIsNoHotLoop(t *testing.T) {
	for _, perHour := range []int{60, 600, 3000} {
		t.Run(fmt.Sprint(perHour, " an hour"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const services = 100
				l := cloudtest.FakeLab(t)
				w := cloudtest.NewWorld(l)
				var all []*corev1.Service
				for i := range services {
					svc := cloudtest.Service(fmt.Sprint("s", i), types.UID(fmt.Sprint("uid-", i)), 80)
					w.Serve(t, svc, w.Nodes(2))
					all = append(all, svc)
				}
				time.Sleep(time.Minute)
				b := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: perHour, ReserveForFailover: 25}, &api{code: 200}, nil)
				for call(t, b, cloud.Updating) == nil {
				}
				w.Engine.Driver = paged{l.Driver.(*cloudtest.Fake), b}
				var tries, done atomic.Int64
				for _, svc := range all {
					go func() {
						for done.Load() < services && t.Context().Err() == nil {
							_, err := w.Ensure(t.Context(), svc, w.Nodes(2))
							var why *cloud.Error
							if tries.Add(1); !errors.As(err, &why) {
								done.Add(1)
								return
							}
							time.Sleep(why.After)
						}
					}()
				}
				most := time.Hour * 25 / time.Duration(perHour) // in which there are 25 calls
				for end := time.Now().Add(max(most, 80*time.Second)); time.Now().Before(end); time.Sleep(10 * time.Second) {
					if n := tries.Swap(0); n > 2*services {
						t.Errorf("%d tries in ten seconds", n)
					}
				}
				if n := done.Swap(services); n != services {
					t.Errorf("%d of %d Services are looked at", n, services)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}
