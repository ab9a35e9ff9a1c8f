package lab

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// cloudAccount is the ServiceAccount of deploy/cloud.
const cloudAccount = "herald-cloud"

// Cloud installs deploy/cloud and returns a cloud plugin of that account, with a
// configuration. It is not started.
func (l *Lab) Cloud(config string, flags ...string) *Daemon {
	l.t.Helper()
	if err := l.cp.apply(l.ctx, "cloud"); err != nil {
		l.t.Fatalf("%v", err)
	}
	n := len(l.clouds) + 1
	name := fmt.Sprintf("cloud-%d", n)
	dir := filepath.Join(l.cp.run, l.name+"-"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatalf("%v", err)
	}
	file, kubeconfig := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "kubeconfig")
	l.writeFile(file, config)
	if err := l.enrol(kubeconfig); err != nil {
		l.t.Fatalf("a kubeconfig for %s: %v", cloudAccount, err)
	}
	d := &Daemon{
		lab: l, name: name, host: &Host{Namespace: l.cp.hub},
		args: append([]string{l.cp.herald, "cloud", "--kubeconfig", kubeconfig, "--cloud-config", file,
			"--leader-elect-resource-namespace", heraldNamespace, "--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(10200 + n)}, flags...),
	}
	l.clouds = append(l.clouds, d)
	return d
}

// enrol writes a kubeconfig with a token of the plugin's account, and its rights.
func (l *Lab) enrol(file string) error {
	hour := int64(3600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hour}}
	answer, err := l.cp.API.CoreV1().ServiceAccounts(heraldNamespace).CreateToken(l.ctx, cloudAccount, request, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	config, err := clientcmd.LoadFromFile(l.cp.Kubeconfig("admin"))
	if err != nil {
		return err
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: answer.Status.Token}
	}
	return clientcmd.WriteToFile(*config, file)
}

// ServeHTTP serves a cloud's API where the plugin reaches it, until the lab ends, and
// returns its URL.
func (l *Lab) ServeHTTP(h http.Handler) (url string) {
	l.t.Helper()
	var ln net.Listener
	err := l.cp.hub.Do(func() (err error) {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		l.t.Fatalf("serving HTTP: %v", err)
	}
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(ln) }() // ends with Close
	l.t.Cleanup(func() { _ = server.Close() })
	return "http://" + ln.Addr().String()
}
