package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

var (
	names = []string{"kubernetes.default.svc", "localhost"}
	addrs = []net.IP{net.ParseIP("10.78.0.1"), net.ParseIP("fd00:96::1")}
)

func certify(t *testing.T, dir string) {
	t.Helper()
	if err := Certify(dir, names, addrs); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheServersCertificateIsTrustedByEachOfItsNames(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, ServerCert), filepath.Join(dir, ServerKey))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(read(t, dir, CACert))) {
		t.Fatal("the authority's certificate cannot be read")
	}
	for _, name := range []string{"kubernetes.default.svc", "localhost", "10.78.0.1", "fd00:96::1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "example.org", Roots: roots}); err == nil {
		t.Error("as example.org, which it is not: trusted")
	}
	late := time.Now().Add(lifetime + time.Minute)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: late}); err == nil {
		t.Error("after its lifetime: trusted")
	}
}

func TestARestartKeepsWhatClientsHold(t *testing.T) {
	dir := t.TempDir()
	kept := func() map[string]string {
		certify(t, dir)
		if _, err := Enrol(dir, dir, "https://10.78.0.1:6443"); err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, name := range []string{CACert, caKey, SAKey, SAPub, Tokens, "admin.kubeconfig"} {
			files[name] = read(t, dir, name)
		}
		return files
	}
	before, after := kept(), kept()
	for name := range before {
		if before[name] != after[name] {
			t.Errorf("%s has changed", name)
		}
	}
}

func TestEachUserHasAKubeconfigOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	users, err := Enrol(dir, dir, "https://10.78.0.1:6443")
	if err != nil {
		t.Fatal(err)
	}
	if users[0].File != "admin" {
		t.Errorf("the first user is %s, want admin", users[0].File)
	}
	seen := map[string]bool{}
	for _, u := range users {
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, u.File+".kubeconfig"))
		if err != nil {
			t.Errorf("%s: %v", u.File, err)
			continue
		}
		if config.Host != "https://10.78.0.1:6443" || config.BearerToken != u.Token || string(config.CAData) != read(t, dir, CACert) {
			t.Errorf("%s: kubeconfig is for %s with token %s and authority %q", u.File, config.Host, config.BearerToken, config.CAData)
		}
		if u.Token == "" || seen[u.Token] {
			t.Errorf("%s: token %q is empty or another's", u.File, u.Token)
		}
		seen[u.Token] = true
	}
}

func TestOnlyTheAdminAndTheControlPlaneAreMasters(t *testing.T) {
	masters := map[string]bool{"admin": true, "kcm": true}
	for _, u := range labUsers() {
		if got := strings.Contains(u.tokenLine(), "system:masters"); got != masters[u.File] {
			t.Errorf("%s is a master: %t, want %t", u.File, got, masters[u.File])
		}
	}
}

func TestHeraldsUsersAreItsServiceAccounts(t *testing.T) {
	u := heraldAccount("speaker")
	u.Token = "TOKEN"
	want := `TOKEN,system:serviceaccount:herald-system:herald-speaker,speaker,"system:serviceaccounts,system:serviceaccounts:herald-system"` + "\n"
	if got := u.tokenLine(); got != want {
		t.Errorf("tokenLine() = %s\nwant        = %s", got, want)
	}
}
