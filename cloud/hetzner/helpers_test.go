package hetzner

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

func uid(i int) types.UID { return types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i)) }

func primary(name string) hcloud.PrimaryIPCreateOpts {
	return hcloud.PrimaryIPCreateOpts{Name: name, Type: hcloud.PrimaryIPTypeIPv4, Location: "fsn1", AssigneeType: "server", AutoDelete: hcloud.Ptr(false)}
}

// reopened is a client of the same cloud with another configuration.
func reopened(t *testing.T, w *world, c cloud.Config) *hcloud.Client {
	t.Helper()
	req, err := w.driver.api.NewRequest(t.Context(), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Endpoint = strings.TrimSuffix(req.URL.String(), "/")
	d, err := Open(c, cloud.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*Driver).api
}
