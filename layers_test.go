// Package herald holds no code: only the tests that keep the house in order.
package herald

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const self = "github.com/herald-lb/herald/"

// forbidden names, for each package, what it must never come to depend on, and
// why. A name stands for all that lies below it, too.
var forbidden = []struct {
	packages []string
	deps     []string
	why      string
}{
	{[]string{"ipam"}, []string{self, "k8s.io/", "sigs.k8s.io/", "github.com/", "golang.org/"},
		"allocation is pure and imports the standard library only"},
	{[]string{"config", "internal/snapshot", "internal/loop", "speaker", "speaker/steer", "speaker/doctor", "controller"},
		[]string{"k8s.io/", "sigs.k8s.io/", "github.com/vishvananda/", "github.com/moby/", "github.com/google/nftables", "github.com/mdlayher/", "github.com/osrg/", self + "config/v1alpha1", self + "internal/kube"},
		"cores decide with plain values and talk to nobody"},
	{[]string{"config"}, []string{self + "internal/", self + "speaker", self + "controller"}, "config stands below the snapshot"},
	{[]string{"internal/snapshot"}, []string{self + "speaker", self + "controller"}, "the snapshot stands below the planners"},
	{[]string{"controller"}, []string{self + "speaker"}, "controller and speaker meet in Service.status only"},
	{[]string{"speaker", "speaker/steer", "speaker/l2", "speaker/arp", "speaker/ndp", "speaker/bfd", "speaker/probe", "speaker/steer/ipvs", "speaker/steer/nft"},
		[]string{self + "controller", self + "internal/kube", "k8s.io/"}, "the node's packages know no Kubernetes"},
	{[]string{"speaker/steer", "speaker/steer/ipvs", "speaker/steer/nft"}, []string{self + "speaker/l2", self + "speaker/arp", self + "speaker/ndp", "github.com/mdlayher/arp", "github.com/mdlayher/ndp"}, "steering knows no announcing"},
	{[]string{"speaker/steer/mh"}, []string{self + "internal/", self + "speaker", self + "controller", self + "config/v1alpha1", "k8s.io/",
		"github.com/vishvananda/", "github.com/moby/", "github.com/google/", "github.com/mdlayher/", "golang.org/"}, "mh asks no kernel, it copies one"},
	{[]string{"speaker/l2"}, []string{self + "speaker/arp", self + "speaker/ndp", "github.com/mdlayher/arp", "github.com/mdlayher/ethernet", "github.com/mdlayher/ndp"}, "l2 knows no protocol"},
	{[]string{"speaker/arp"}, []string{self + "speaker/ndp", "github.com/mdlayher/ndp"}, "a protocol knows no other"},
	{[]string{"speaker/ndp"}, []string{self + "speaker/arp", "github.com/mdlayher/arp", "github.com/mdlayher/ethernet"}, "a protocol knows no other"},
	{[]string{"speaker/l2", "speaker/arp", "speaker/ndp"}, []string{self + "speaker/steer/ipvs", self + "speaker/steer/nft", "github.com/moby/"}, "announcing knows no kernel that steers"},
	{[]string{"speaker/bfd"}, []string{self + "speaker", "github.com/"}, "BFD knows neither who is watched nor why"},
	{[]string{"speaker/bgp"}, []string{self + "controller", self + "internal/kube", self + "speaker/l2", self + "speaker/bfd", "k8s.io/"}, "BGP says what it is told, to whom it is told"},
	{[]string{"speaker/l2", "speaker/arp", "speaker/ndp", "speaker/bfd", "speaker/liveness", "speaker/steer/ipvs", "speaker/steer/nft", "internal/kube"}, []string{"github.com/osrg/"}, "only bgp imports GoBGP"},
	{[]string{"speaker/liveness"}, []string{self + "controller", self + "internal/kube", self + "speaker/l2", "k8s.io/", "github.com/vishvananda/"}, "who is alive is asked neither of the API nor of the wire of an address"},
	{[]string{"cloud"}, []string{self + "cloud/", self + "controller", self + "speaker", "github.com/hetznercloud/", "k8s.io/client-go", "k8s.io/cloud-provider"}, "an engine knows neither a cloud nor its host"},
	{[]string{"cloud/hetzner"}, []string{self + "controller", self + "speaker", self + "config", self + "ipam", self + "internal/", "k8s.io/client-go"}, "a driver knows its cloud and the contract"},
	{[]string{"speaker/steer/nft"}, []string{"github.com/moby/"}, "only ipvs imports moby/ipvs"},
	{[]string{"speaker/doctor/look"}, []string{self + "controller", self + "internal/kube", self + "config/v1alpha1", "k8s.io/"}, "the doctor looks at a node, not at the API"},
	{[]string{"cloud", "controller", "speaker"}, []string{"github.com/gophercloud/"}, "only cloud/openstack imports Gophercloud"},
	{[]string{"speaker/healthport"}, []string{self + "speaker", self + "controller", self + "internal/kube", "k8s.io/",
		"github.com/vishvananda/", "github.com/moby/", "github.com/google/nftables", "github.com/mdlayher/"}, "who answers on ports neither steers nor announces"},
	{[]string{"internal/cloudsim/hetzner", "internal/cloudsim/referee", "internal/cloudsim/chaos"},
		[]string{self, "k8s.io/", "sigs.k8s.io/"}, "a simulator that knows what is tested with it agrees with its mistakes"},
	{[]string{"internal/cloudsim/hetzner", "internal/cloudsim/chaos"}, []string{"github.com/getkin/"}, "only the referee knows the document"},
}

// inTests are for tests only: no program may come to hold them.
var inTests = []string{self + "internal/cloudsim", "github.com/getkin/kin-openapi"}

// Every package is looked at, also those that are yet to be written.
func TestNobodyHoldsASimulator(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}: {{join .Deps " "}}`, "./...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		pkg, deps, _ := strings.Cut(line, ": ")
		if matches(pkg, inTests) {
			continue
		}
		for dep := range strings.FieldsSeq(deps) {
			if matches(dep, inTests) {
				t.Errorf("%s depends on %s, which is for tests", pkg, dep)
			}
		}
	}
}

func TestLayers(t *testing.T) {
	for _, rule := range forbidden {
		for _, pkg := range rule.packages {
			for _, dep := range dependencies(t, pkg) {
				if dep != self+pkg && matches(dep, rule.deps) {
					t.Errorf("%s depends on %s: %s", pkg, dep, rule.why)
				}
			}
		}
	}
}

// matches reports whether dep is one of names or lies below one.
func matches(dep string, names []string) bool {
	for _, n := range names {
		if dep == strings.TrimSuffix(n, "/") || strings.HasPrefix(dep, strings.TrimSuffix(n, "/")+"/") {
			return true
		}
	}
	return false
}

func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go list ./%s: %v\n%s", pkg, err, out)
	}
	return strings.Fields(string(out))
}

func TestNobodyImportsTheCommand(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}: {{join .Imports " "}}`, "./...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if _, imports, _ := strings.Cut(line, ": "); strings.Contains(imports, self+"cmd/") {
			t.Errorf("a command is imported: %s", line)
		}
	}
}

// Every package says in one package comment what it owns and what it never does.
func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{} // by directory
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		if f.Doc != nil && !strings.HasPrefix(path, ".") {
			comments[dir] = append(comments[dir], path)
		} else if _, seen := comments[dir]; !seen {
			comments[dir] = nil
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("package in %s has its comment in %v, want exactly one", dir, files)
		}
	}
}
