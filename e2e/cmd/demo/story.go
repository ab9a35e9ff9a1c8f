package main

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// The manifests of the story, as the files that kubectl applies.
var manifests = map[string]string{
	"service.yaml": `apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`,
	"pool.yaml": `apiVersion: herald-lb.io/v1alpha1
kind: AddressPool
metadata:
  name: lan
spec:
  addresses: [192.168.50.240-192.168.50.250]
`,
}

// A demo is the story while it is told.
type demo struct {
	t    lab.T
	l    *lab.Lab
	cp   *lab.ControlPlane
	out  *terminal
	dir  string   // where the manifests are
	env  []string // of kubectl
	pods []string
}

// play tells the whole story, which began with the control plane.
func play(t lab.T, cp *lab.ControlPlane, out *terminal, began time.Time) {
	d := &demo{t: t, cp: cp, out: out, dir: filepath.Join(cp.Run(), "manifests")}
	d.prepare()
	d.cluster()
	d.pending()
	addr := d.assigned()
	d.reached(addr)
	owner := d.inTheKernel(addr)
	d.failover(addr, owner)
	d.gone(addr)
	out.title(fmt.Sprintf("Every step held: %.1f s in all.", time.Since(began).Seconds()))
	switch {
	case os.Getenv("KEEP") == "":
	case os.Getenv("HERALD_LAB_UML") != "":
		out.say("KEEP is of no use in User-Mode Linux: nobody can look into the guest.")
	default:
		d.keep(owner)
	}
}

// prepare writes the manifests and makes a kubeconfig that works here.
func (d *demo) prepare() {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		d.t.Fatalf("making the folder for manifests: %v", err)
	}
	for name, text := range manifests {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
			d.t.Fatalf("writing %s: %v", name, err)
		}
	}
	kubeconfig, err := d.cp.Forward(d.t.Context())
	if err != nil {
		d.t.Fatalf("making the API server reachable: %v", err)
	}
	d.env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
}

// cluster starts nodes, pods and Herald.
func (d *demo) cluster() {
	d.out.step("A client, a router, three nodes with a pod each, and Herald")
	began := time.Now()
	d.l = d.cp.Start(d.t, lab.Options{Namespace: "default"})
	for i := range d.l.Nodes() {
		pod := fmt.Sprintf("web-%d", i+1)
		d.l.Pod(i+1, pod, lab.PodSpec{Labels: lab.App("web")})
		d.pods = append(d.pods, pod)
	}
	took := time.Since(began)
	d.kubectl("get", "nodes")
	out := d.kubectl("get", "pods", "-o", "wide")
	d.check(strings.Count(out, "Running") == len(d.pods), "three pods run, one on each node")
	d.out.ok("network, nodes, pods, one controller and three speakers are up", took)
}

// pending shows a Service without a pool.
func (d *demo) pending() {
	d.out.step("A Service of type LoadBalancer waits")
	d.apply("service.yaml")
	d.l.Eventually("Herald says why it waits", func() error {
		if c := d.l.Condition("web"); c.Status != "False" {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	out := d.kubectl("get", "service", "web")
	d.check(strings.Contains(out, "<pending>"), "without a pool there is no address")
	out = d.kubectl("get", "service", "web", "-o", `jsonpath={.status.conditions[?(@.type=="herald-lb.io/AddressAssigned")].message}`)
	d.check(strings.TrimSpace(out) != "", "and the Service says why")
}

// assigned applies the pool.
func (d *demo) assigned() netip.Addr {
	d.out.step("Six lines of pool, and it has an address")
	d.command("", "cat", "pool.yaml")
	d.apply("pool.yaml")
	began := time.Now()
	addr := d.l.WaitAddress("web")
	took := time.Since(began)
	d.l.Eventually("the client is answered", func() error {
		_, err := d.l.Client.Get("http://" + addr.String())
		return err
	})
	answered := time.Since(began)
	out := d.kubectl("get", "service", "web")
	d.check(strings.Contains(out, addr.String()), "EXTERNAL-IP is %s", addr)
	d.out.ok("kubectl apply has returned → the address is in the status", took)
	d.out.ok("kubectl apply has returned → the client's first request is answered", answered)
	d.kubectl("get", "addresspools")
	return addr
}

// reached asks from the client.
func (d *demo) reached(addr netip.Addr) {
	d.out.step("A client on the same segment reaches it")
	d.arping(addr, true)
	seen := map[string]bool{}
	for range 4 * len(d.pods) {
		body := d.on("client", d.l.Client, "curl", "-sS", "--max-time", "5", "http://"+addr.String())
		seen[lab.PodOf(body)] = true
		if len(seen) == len(d.pods) {
			break
		}
	}
	got := slices.Sorted(maps.Keys(seen))
	d.check(slices.Equal(got, d.pods), "all pods answer: %s", strings.Join(got, ", "))
	body := d.on("far", d.l.Far, "curl", "-sS", "--max-time", "5", "http://"+addr.String())
	d.check(seen[lab.PodOf(body)], "so they do to a client behind the router")
	if owner, err := d.l.Owner(addr); err == nil && owner.DataPath() == "ipvs" {
		d.check(lab.ClientOf(strings.TrimSpace(body)).String() == "198.51.100.7", "and they see its own address")
	}
}

// inTheKernel shows the rows on the node that announces the address.
func (d *demo) inTheKernel(addr netip.Addr) *lab.Node {
	owner, err := d.l.Owner(addr)
	if err != nil {
		d.t.Fatalf("%v", err)
	}
	d.out.step(fmt.Sprintf("%s announces it, and this is in its kernel", owner.Name))
	var rows string
	if owner.DataPath() == "ipvs" {
		d.out.say("# what comes from outside chooses a node, and travels there by tunnel")
		rows = d.rows(owner, "front")
		d.out.say("# what has come by tunnel chooses a pod of this node")
		rows += d.rows(owner, "back")
		d.out.say("# clients on this node itself choose among all pods")
		rows += d.rows(owner, "lb")
	} else {
		// The whole table is 90 lines; these two maps are what changes.
		rows = d.on(owner.Name, owner.Host, "nft", "list", "map", "inet", "herald", "servers4")
		rows += d.on(owner.Name, owner.Host, "nft", "list", "map", "inet", "herald", "ends4")
	}
	d.check(strings.Contains(rows, addr.String()), "%s steers %s with %s", owner.Name, addr, owner.DataPath())
	return owner
}

// rows shows what stands in one of Herald's namespaces.
func (d *demo) rows(n *lab.Node, tier string) string {
	return d.on(n.Name, n.Host, "nsenter", "--net="+n.Pinned(tier), "ipvsadm", "-Ln")
}

// failover kills the speaker of the owner.
func (d *demo) failover(addr netip.Addr, owner *lab.Node) {
	d.out.step(fmt.Sprintf("The speaker of %s is killed", owner.Name))
	traffic := d.l.Client.Ask("http://"+addr.String(), 20*time.Millisecond)
	d.out.command(owner.Name, fmt.Sprintf("kill -9 %d   # herald speaker", owner.Speaker.PID()))
	owner.Kill()
	began := time.Now()
	var now *lab.Node
	d.l.Eventually("another node answers for the address", func() (err error) {
		if now, err = d.l.Owner(addr); err == nil && now == owner {
			err = fmt.Errorf("%s answers", now.Name)
		}
		return err
	})
	took := time.Since(began)
	d.arping(addr, true)
	body := d.on("client", d.l.Client, "curl", "-sS", "--max-time", "5", "http://"+addr.String())
	d.check(slices.Contains(d.pods, lab.PodOf(body)), "%s has taken over, and curl goes on", now.Name)
	d.out.ok("killed → announced by another node", took)
	traffic.Stop()
	d.check(traffic.Requests > traffic.Failed, "meanwhile %d requests, %d failed, at most %s without an answer",
		traffic.Requests, traffic.Failed, round(traffic.Longest))
	owner.StartSpeaker()
	owner.Speaker.WaitReady()
}

// gone deletes the Service and looks for what is left.
func (d *demo) gone(addr netip.Addr) {
	d.out.step("The Service is deleted, and nothing stays")
	d.kubectl("delete", "service", "web")
	began := time.Now()
	d.l.Eventually("nobody answers for the address", func() error { return d.l.Silent(addr) })
	d.l.Eventually("no kernel steers it", func() error { return d.l.NoRows(addr) })
	took := time.Since(began)
	d.arping(addr, false)
	for _, n := range d.l.Nodes() {
		if n.DataPath() == "ipvs" {
			d.rows(n, "front")
		} else {
			d.on(n.Name, n.Host, "nft", "list", "set", "inet", "herald", "addrs4")
		}
	}
	d.out.ok("the address is silent, no kernel of a node has rows for it", took)
	out := d.kubectl("get", "addresspool", "lan", "-o", "jsonpath={.status.ipv4}")
	d.check(strings.Contains(out, `"assigned":0`), "the pool is all free again")
}

// keep leaves everything running until somebody ends it.
func (d *demo) keep(owner *lab.Node) {
	d.apply("service.yaml")
	addr := d.l.WaitAddress("web")
	d.out.title("It stays until ^C (or bin/demo stop). Look around:")
	for _, line := range []string{
		"export " + d.env[len(d.env)-1],
		"kubectl get services,endpointslices,addresspools",
		"ip netns exec " + d.l.Client.Namespace.Name + " curl http://" + addr.String(),
		"ip netns exec " + owner.Host.Namespace.Name + " bash        # a node; its speaker's log: " + owner.Speaker.LogFile(),
	} {
		d.out.say("  " + line)
	}
	if owner.DataPath() == "ipvs" {
		for _, tier := range lab.Tiers {
			d.out.say("  nsenter --net=" + owner.Pinned(tier) + " ipvsadm -Ln")
		}
	}
	<-d.t.Context().Done()
}

// check goes on only if ok.
func (d *demo) check(ok bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !ok {
		d.t.Fatalf("step %d does not hold: %s", d.out.steps, text)
	}
	d.out.ok(text, 0)
}

func (d *demo) apply(file string) { d.kubectl("apply", "-f", file) }

// kubectl runs the real kubectl.
func (d *demo) kubectl(args ...string) string { return d.command("", "kubectl", args...) }

// command runs a program here, shown as typed at the prompt.
func (d *demo) command(prompt, name string, args ...string) string {
	d.out.command(prompt, typed(append([]string{name}, args...)))
	path := name
	if name == "kubectl" {
		var err error
		if path, err = lab.Tool("KUBECTL"); err != nil {
			d.t.Fatalf("%v", err)
		}
	}
	cmd := exec.CommandContext(d.t.Context(), path, args...)
	cmd.Dir, cmd.Env = d.dir, d.env
	out, err := cmd.CombinedOutput()
	d.out.output(string(out))
	if err != nil {
		d.t.Fatalf("running %s: %v", name, err)
	}
	return string(out)
}

// on runs a program on a host of the lab.
func (d *demo) on(prompt string, h *lab.Host, args ...string) string {
	d.out.command(prompt, typed(args))
	out, err := h.Exec(args...)
	d.out.output(out)
	if err != nil {
		d.t.Fatalf("%v", err)
	}
	return out
}

// arping asks who has the address, where arping is installed: the checks do
// not depend on it.
func (d *demo) arping(addr netip.Addr, answered bool) {
	if _, err := exec.LookPath("arping"); err != nil {
		return
	}
	args := []string{"arping", "-c", "1", "-w", "1", "-I", "eth0", addr.String()}
	d.out.command("client", typed(args))
	out, err := d.l.Client.Exec(args...)
	d.out.output(out)
	if answered != (err == nil) {
		d.t.Fatalf("arping: answered %t, want %t", err == nil, answered)
	}
}

// typed writes a command as one types it.
func typed(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; strings.ContainsAny(a, " {}[]?()\"$*") {
			words[i] = "'" + a + "'"
		}
	}
	return strings.Join(words, " ")
}
