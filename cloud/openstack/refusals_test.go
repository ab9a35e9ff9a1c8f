package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	sim "github.com/herald-lb/herald/internal/cloudsim/openstack"
)

// What a server refuses is of a class, and no secret is in any error.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	services := regexp.MustCompile("^/v2") // not Keystone
	for status, class := range map[int]cloud.Class{403: cloud.Auth, 404: cloud.NotFound, 413: cloud.Quota, 429: cloud.RateLimited, 500: cloud.Retryable, 503: cloud.Retryable, 0: cloud.Retryable} {
		effect := map[int]chaos.Effect{0: chaos.Drop, 429: chaos.TooManyRequests(7 * time.Second)}[status]
		if effect == nil {
			effect = chaos.Answer(status, "chaos")
		}
		w.Chaos.Add(chaos.Rule{Path: services, Do: effect})
		w.secretive(t, status, class)
		w.Chaos.Calm()
	}
	t.Setenv("OS_APPLICATION_CREDENTIAL_SECRET", "wr0ng-secret")
	w.restart(t)
	w.secretive(t, 401, cloud.Auth)
}

// What is wrong with the cloud, and not with a Service, is tried again: nobody is to
// edit the Service for it.
func TestNotForAService(t *testing.T) {
	for _, err := range []error{gophercloud.ErrEndpointNotFound{}, &gophercloud.ErrEndpointNotFound{}} {
		if got := explain(err, "looking for a service"); !cloud.Is(got, cloud.Retryable) {
			t.Errorf("%T is of class %s", err, cloud.ClassOf(got))
		}
	}
}

// Credentials go to the server that was named, and to none that it names.
func TestRefusalsOfRedirections(t *testing.T) {
	var heard atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
	defer other.Close()
	keystone := httptest.NewServer(http.RedirectHandler(other.URL+"/v3/auth/tokens", http.StatusTemporaryRedirect))
	defer keystone.Close()
	d, err := cloud.OpenDriver(cloud.Config{Provider: "openstack", Endpoint: keystone.URL + "/v3"}, cloud.Env{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find(t.Context(), owner("web")); !cloud.Is(err, cloud.Retryable) || heard.Load() > 0 {
		t.Errorf("Find() = %v, and another server has heard %d calls", err, heard.Load())
	}
}

// secretive looks at the error of a call.
func (w *world) secretive(t *testing.T, status int, class cloud.Class) {
	t.Helper()
	_, err := w.Find(t.Context(), owner("web"))
	if !cloud.Is(err, class) {
		t.Errorf("%d: %v is of class %s, not %s", status, err, cloud.ClassOf(err), class)
	}
	for _, secret := range []string{sim.Secret, "wr0ng-secret", "t0ken"} {
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("%d: a secret is in %q", status, err)
		}
	}
	var why *cloud.Error
	if errors.As(err, &why) && status == 429 && why.After != 7*time.Second {
		t.Errorf("Retry-After is %s", why.After)
	}
}
