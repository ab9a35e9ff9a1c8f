package hetzner_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// run calls the hcloud command, which knows nothing of us.
func (w *world) run(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "hcloud", append(args, "--poll-interval", "10ms")...)
	cmd.Env = append(os.Environ(), "HCLOUD_ENDPOINT="+w.url, "HCLOUD_TOKEN="+hetzner.DefaultToken, "HOME="+w.t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("hcloud %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func requireCLI(t *testing.T) {
	if _, err := exec.LookPath("hcloud"); err != nil {
		if os.Getenv("REQUIRE_HCLOUD_CLI") != "" {
			t.Fatal("there is no hcloud command, and REQUIRE_HCLOUD_CLI is set: install hcloud-cli")
		}
		t.Skip("there is no hcloud command: install hcloud-cli")
	}
}

// Hetzner's own command, of another version of hcloud-go, gets along with the
// simulator, too.
func TestCLI(t *testing.T) {
	requireCLI(t)
	w := newWorld(t, hetzner.Options{})
	w.AddServer(hetzner.ServerSpec{Name: "a"})

	w.run("load-balancer", "create", "--name", "web", "--type", "lb11", "--location", "fsn1", "--label", "owner=me")
	w.run("load-balancer", "add-service", "web", "--protocol", "tcp", "--listen-port", "80", "--destination-port", "30080")
	// The document has health checks required, but the command has no flag for one.
	w.known = []string{fmt.Sprintf("POST /load_balancers/%d/actions/add_service: request: request body has an error: "+
		"doesn't match schema #/components/schemas/load_balancer_service: /health_check: property \"health_check\" is missing", w.LoadBalancers()[0].ID)}
	w.run("load-balancer", "add-target", "web", "--server", "a")
	if out := w.run("load-balancer", "list", "-o", "columns=name,type,location"); !strings.Contains(out, "web") || !strings.Contains(out, "lb11") {
		t.Errorf("list says\n%s", out)
	}
	var lb struct {
		Services []struct {
			ListenPort int `json:"listen_port"`
		}
		Targets []struct{ Type string }
	}
	if err := json.Unmarshal([]byte(w.run("load-balancer", "describe", "web", "-o", "json")), &lb); err != nil {
		t.Fatal(err)
	}
	if len(lb.Services) != 1 || lb.Services[0].ListenPort != 80 || len(lb.Targets) != 1 {
		t.Errorf("describe says %+v", lb)
	}
	if out := w.run("load-balancer", "describe", "web"); !strings.Contains(out, "30080") {
		t.Errorf("describe says\n%s", out)
	}

	w.run("floating-ip", "create", "--name", "vip", "--type", "ipv4", "--home-location", "fsn1")
	w.run("floating-ip", "assign", "vip", "a")
	if f := w.FloatingIPs()[0]; f.Server == nil {
		t.Errorf("after assign: %+v", f)
	}
	w.run("floating-ip", "unassign", "vip")
	w.run("floating-ip", "delete", "vip")
	if left := w.FloatingIPs(); len(left) != 0 {
		t.Errorf("floating IPs left: %v", left)
	}
}
