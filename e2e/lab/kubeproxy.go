package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// rulesWithin bounds how long kube-proxy may take to write its rules: a second or
// two, but a minute in User-Mode Linux on a busy machine, for it starts dozens of
// programs to tidy up after other modes.
const rulesWithin = 3 * time.Minute

// StartKubeProxy starts the real kube-proxy on the node, in the mode iptables,
// nftables or ipvs, and waits until it has written its rules for both families.
// What an earlier one has left in the kernel it finds there, as on a real node.
func (n *Node) StartKubeProxy(mode string) {
	n.lab.t.Helper()
	labkube, err := Tool("LABKUBE")
	if err != nil {
		n.lab.t.Fatalf("starting kube-proxy: %v", err)
	}
	bin, err := n.lab.cp.modprobe()
	if err != nil {
		n.lab.t.Fatalf("starting kube-proxy: %v", err)
	}
	n.KubeProxy = &Daemon{
		lab: n.lab, name: "kube-proxy-" + n.Name, host: n.Host, ready: "http://127.0.0.1:10249/metrics",
		args: []string{"env", "PATH=" + bin + ":" + os.Getenv("PATH"), labkube, "kube-proxy",
			"--kubeconfig", n.lab.cp.Kubeconfig("proxy"), "--hostname-override", n.Name,
			"--proxy-mode", mode, "--cluster-cidr", allPods,
			// The size of the table is the kernel's, not a namespace's: not ours to set.
			"--conntrack-max-per-core", "0"},
	}
	n.KubeProxy.Start()
	n.lab.Within(rulesWithin, "kube-proxy of "+n.Name+" has written its rules", n.KubeProxy.wroteRules)
}

// StopKubeProxy ends the node's kube-proxy; its rules stay. It does not listen
// to SIGTERM, so that a planned end and a crash are the same.
func (n *Node) StopKubeProxy() { n.KubeProxy.Kill() }

// wroteRules says whether a kube-proxy has, for both families. It calls itself
// healthy before that.
func (d *Daemon) wroteRules() error {
	if err := d.Ready(); err != nil {
		return err
	}
	metrics, err := d.host.Get(d.ready)
	if n := strings.Count(metrics, "\nkubeproxy_sync_proxy_rules_last_timestamp_seconds{"); err == nil && n < 2 {
		err = fmt.Errorf("it has written rules for %d families", n)
	}
	return err
}

// modprobe makes a folder with a modprobe that finds everything built in, and
// returns it. kube-proxy flushes IPVS at some of its starts, but only where it
// can be loaded: the lab's kernel with IPVS has no modules, and is to be
// treated like those of real nodes.
func (cp *ControlPlane) modprobe() (string, error) {
	const script = "#!/bin/sh\n[ -e /proc/net/ip_vs ]\n"
	dir := filepath.Join(cp.run, "bin")
	path := filepath.Join(dir, "modprobe")
	if _, err := os.Stat(path); err == nil {
		return dir, nil // perhaps in use: not to be written again
	}
	return dir, errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, []byte(script), 0o755))
}
