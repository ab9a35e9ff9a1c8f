package openstack

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/herald-lb/herald/internal/cloudsim/chaos"
)

// A Project is one of OpenStack's, with two networks and a router between them.
// Its API is reached as a client would: by a catalogue, with a token.
type Project struct {
	*Servers
	*Journal
	// Chaos stands before all three services, and spoils none of the test's own calls.
	Chaos *chaos.Proxy

	ID      string
	AuthURL string // of Keystone
	// Client makes the test's own calls; nil for the default.
	Client *http.Client
	// Nodes is the network that machines are in, and Public that of floating IPs.
	Nodes, Subnet, Public string // IDs

	api *httptest.Server
}

// NewProject makes a project that nobody else uses.
func (s *Servers) NewProject(t testing.TB) *Project {
	t.Helper()
	p := &Project{Servers: s, Journal: &Journal{}, ID: fmt.Sprint("project-", s.projects.Add(1))}
	services := p.services()
	p.Chaos = chaos.New(services)
	p.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(byHand) != "" {
			services.ServeHTTP(w, r)
			return
		}
		p.Chaos.ServeHTTP(w, r)
	}))
	t.Cleanup(p.api.Close)
	p.AuthURL = p.api.URL + "/v3"
	p.Public = p.make(t, "networks", map[string]any{"name": "public", "router:external": true, "provider:network_type": "flat", "provider:physical_network": p.ID})
	p.make(t, "subnets", map[string]any{"network_id": p.Public, "cidr": "203.0.113.0/24", "ip_version": 4, "enable_dhcp": false})
	p.Nodes = p.make(t, "networks", map[string]any{"name": "nodes"})
	p.Subnet = p.make(t, "subnets", map[string]any{"network_id": p.Nodes, "name": "nodes4", "cidr": "10.0.0.0/24", "ip_version": 4})
	router := p.make(t, "routers", map[string]any{"external_gateway_info": map[string]any{"network_id": p.Public}})
	p.Neutron(t, "PUT", "/routers/"+router+"/add_router_interface", map[string]any{"subnet_id": p.Subnet})
	p.Reset()
	return p
}

// Port makes one in the network of the nodes, as for a machine.
func (p *Project) Port(t testing.TB) string {
	t.Helper()
	return p.make(t, "ports", map[string]any{"network_id": p.Nodes})
}

// Octavia calls its API as people do with other tools, and returns the answer.
func (p *Project) Octavia(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	return p.call(t, method, p.api.URL+"/v2.0/lbaas"+path, body)
}

// Neutron calls its API as people do with other tools, and returns the answer.
func (p *Project) Neutron(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	return p.call(t, method, p.api.URL+"/v2.0"+path, body)
}

// make makes something in Neutron and returns its ID.
func (p *Project) make(t testing.TB, kind string, what map[string]any) string {
	t.Helper()
	one := kind[:len(kind)-1]
	answer := p.Neutron(t, "POST", "/"+kind, map[string]any{one: what})
	return answer[one].(map[string]any)["id"].(string)
}

func (p *Project) call(t testing.TB, method, url string, body any) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	r, err := http.NewRequest(method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set(byHand, "yes")
	res, err := cmp.Or(p.Client, http.DefaultClient).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s %v", method, url, res.Status, said, err)
	}
	answer := map[string]any{}
	if len(said) > 0 {
		if err := json.Unmarshal(said, &answer); err != nil {
			t.Fatalf("%s %s: %v", method, url, err)
		}
	}
	return answer
}

// Secret is the only one with which Keystone gives a token, and token that.
const (
	Secret = "s3cret-of-the-application"
	token  = "t0ken-of-the-test"
)

// services are all three at one address, as many clouds have them: what a call is
// for is told by its path.
func (p *Project) services() http.Handler {
	octavia, neutron := p.proxy(p.octavia.port, "octavia"), p.proxy(p.neutron.port, "neutron")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v3/"):
			p.keystone(w, r)
		case r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/v2.0/lbaas"):
			octavia.ServeHTTP(w, r)
		default:
			neutron.ServeHTTP(w, r)
		}
	})
}

// keystone gives tokens for application credentials, and a catalogue.
func (p *Project) keystone(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.note(r, "keystone")
	if r.Method != "POST" || r.URL.Path != "/v3/auth/tokens" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !bytes.Contains(body, []byte(Secret)) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."}}`)
		return
	}
	service := func(kind, url string) map[string]any {
		return map[string]any{"type": kind, "name": kind, "endpoints": []any{map[string]any{"interface": "public", "region": "r", "region_id": "r", "url": url}}}
	}
	w.Header().Set("X-Subject-Token", token)
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{
		"expires_at": "2099-01-01T00:00:00.000000Z", "project": map[string]any{"id": p.ID, "name": p.ID},
		"catalog": []any{service("load-balancer", p.api.URL), service("network", p.api.URL)},
	}}) // to a client that is gone it does not matter
}
