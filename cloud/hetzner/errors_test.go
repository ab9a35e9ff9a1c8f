package hetzner

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

func TestFailedActionsAreTold(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := w.spec([]int32{80}, 0)
	w.ensure(s)
	w.FailActions("add_target", "server_not_attached_to_network", 1)
	err := w.pass(w.spec([]int32{80}, 0, 1))
	if err == nil || !strings.Contains(err.Error(), "add_target of ") || !strings.Contains(err.Error(), "server_not_attached_to_network") {
		t.Errorf("it says %v", err)
	}
	w.ensure(w.spec([]int32{80}, 0, 1))
}

func TestErrorsHaveTheirClass(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := w.spec([]int32{80}, 0)
	w.ensure(s)
	more := w.spec([]int32{80}, 0, 1)
	for code, want := range map[string]cloud.Class{
		"unauthorized": cloud.Auth, "forbidden": cloud.Auth, "resource_limit_exceeded": cloud.Quota, "maintenance": cloud.Retryable,
		"not_found": cloud.Retryable, // not the load balancer: it is there
		"conflict":  cloud.Locked, "locked": cloud.Locked, "resource_unavailable": cloud.Quota,
		"invalid_input": cloud.Terminal, "service_error": cloud.Terminal, "unsupported_error": cloud.Terminal, "json_error": cloud.Terminal,
		"server_not_attached_to_network": cloud.Terminal, "missing_ipv4": cloud.Terminal, "deprecated_api_endpoint": cloud.Terminal,
		"rate_limit_exceeded": cloud.RateLimited, "server_error": cloud.Retryable, "bad_gateway": cloud.Retryable, "unavailable": cloud.Retryable, "timeout": cloud.Retryable,
	} {
		w.Refuse(sim.Refusal{Method: http.MethodPost, Code: code, Times: 1})
		err := w.pass(more)
		if got := cloud.ClassOf(err); err == nil || got != want {
			t.Errorf("%s is %q (%v), want %q", code, got, err, want)
		}
		var e *cloud.Error
		if asError(err, &e) && (e.Class == cloud.RateLimited || e.Class == cloud.Quota) && e.After == 0 {
			t.Errorf("%s does not say when to try again", code)
		}
	}
	w.ensure(more)
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t, sim.Options{})
	w.find()
	w.SetRateLimit(3600, 0)
	_, err := w.driver.Find(t.Context(), owner)
	var e *cloud.Error
	if !asError(w.hear(err), &e) || e.Class != cloud.RateLimited || e.After <= 0 || e.Reason != cloud.ReasonRateLimited {
		t.Errorf("it says %v", err)
	}
	w.clock.Advance(time.Minute)
	w.find()
}

func TestTokenIsReadAnew(t *testing.T) {
	w := newWorld(t, sim.Options{})
	file := filepath.Join(t.TempDir(), "token")
	c := cloud.Config{Provider: "hetzner", TokenFile: file}
	w.driver.api = reopened(t, w, c)
	for text, want := range map[string]cloud.Class{"": cloud.Auth, "wrong-token": cloud.Auth, "two\nlines": cloud.Retryable, sim.DefaultToken + "\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := w.driver.Find(t.Context(), owner)
		_ = w.hear(err)
		if err == nil && want != "" || err != nil && !cloud.Is(err, want) {
			t.Errorf("with token %q it says %v, want %q", text, err, want)
		}
		if err != nil && text != "" && strings.Contains(err.Error(), strings.TrimSpace(text)) {
			t.Errorf("it tells the token: %v", err)
		}
	}
}

// Whatever comes back in place of an answer is an error of a class that fits, and
// nothing is concluded from it.
func TestSpoiledAnswers(t *testing.T) {
	for name, spoil := range map[string]struct {
		do   chaos.Effect
		want cloud.Class
	}{
		"lost":      {chaos.DropAnswer, cloud.Retryable},
		"cut":       {chaos.Truncate, cloud.Retryable},
		"502":       {chaos.Answer(http.StatusBadGateway, "bad_gateway"), cloud.Retryable},
		"too many":  {chaos.TooManyRequests(17 * time.Second), cloud.RateLimited},
		"one twice": {chaos.RepeatPage, cloud.Retryable},
		"nothing":   {chaos.EmptyList, cloud.Unsafe},
		"no JSON":   {chaos.GatewayError(http.StatusServiceUnavailable), cloud.Retryable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sim.Options{})
			for i := range 60 {
				w.AddServer(sim.ServerSpec{Name: fmt.Sprint("many-", i)})
			}
			w.find()
			w.chaos.Add(chaos.Rule{Method: http.MethodGet, Path: regexp.MustCompile("^/servers"), Do: spoil.do})
			known, unknown, err := w.driver.Instances(t.Context(), nil, cloud.LBSpec{})
			if known != nil || unknown != nil || err == nil || !cloud.Is(w.hear(err), spoil.want) {
				t.Errorf("known %v, unknown %v, error %v", known, unknown, err)
			}
			var e *cloud.Error
			if asError(err, &e) && e.Class == cloud.RateLimited && e.After != 17*time.Second {
				t.Errorf("it says to try again after %s", e.After)
			}
		})
	}
}

// A token goes to the API, and to nobody whom it names.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	w := newWorld(t, sim.Options{})
	var told atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told.Add(1) }))
	defer elsewhere.Close()
	w.chaos.Add(chaos.Rule{Do: func(rw http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(rw, r, elsewhere.URL, http.StatusFound)
	}})
	if _, err := w.driver.Find(t.Context(), owner); !cloud.Is(w.hear(err), cloud.Retryable) {
		t.Errorf("it says %v", err)
	}
	w.chaos.Calm()
	if told.Load() != 0 {
		t.Error("it went elsewhere")
	}
	w.find()
}

func TestInvalidInputIsExplained(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := with(w.spec([]int32{80}, 0), func(s *cloud.LBSpec) { s.Listeners[0].Health.Interval = time.Hour })
	if err := w.pass(s); !cloud.Is(err, cloud.Terminal) || !strings.Contains(err.Error(), "interval must be in 3-60") {
		t.Errorf("it says %v", err)
	}
}

// A catalogue that can not be read anew is better than none, and is not asked for all
// the time.
func TestCatalogueOutlivesErrors(t *testing.T) {
	w := newWorld(t, sim.Options{})
	w.find()
	w.clock.Advance(2 * maxAge)
	w.Refuse(sim.Refusal{Path: regexp.MustCompile("pricing|types|networks"), Code: "server_error", Times: 1000})
	w.ClearJournal()
	for range 5 {
		w.find()
	}
	if j := w.Journal(); len(j) != 6 {
		t.Errorf("it took %q", calls(j))
	}
}
