package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// API returns the client of the cluster.
func (l *Lab) API() *API { return l.cp.API }

// Apply applies manifests; objects without a namespace go to the story's own.
func (l *Lab) Apply(manifests string) {
	l.t.Helper()
	if err := l.TryApply(manifests); err != nil {
		l.t.Fatalf("%v", err)
	}
}

// TryApply is Apply for what the API server may refuse.
func (l *Lab) TryApply(manifests string) error {
	return l.cp.API.Apply(l.ctx, l.Namespace, manifests)
}

// Try asks whether the API server would take manifests. It stores none.
func (l *Lab) Try(manifests string) error { return l.cp.API.Try(l.ctx, l.Namespace, manifests) }

// Delete deletes what Apply has applied.
func (l *Lab) Delete(manifests string) {
	l.t.Helper()
	if err := l.cp.API.Delete(l.ctx, l.Namespace, manifests); err != nil {
		l.t.Fatalf("%v", err)
	}
}

// DeleteService deletes a Service of the story.
func (l *Lab) DeleteService(name string) {
	l.t.Helper()
	namespace, name := l.locate(name)
	if err := l.cp.API.CoreV1().Services(namespace).Delete(l.ctx, name, atOnce()); err != nil {
		l.t.Fatalf("deleting service %s: %v", name, err)
	}
}

// Service returns a Service of the story as it is now. Here and everywhere, one
// that is not in the story's own namespace is called namespace/name.
func (l *Lab) Service(name string) *corev1.Service {
	l.t.Helper()
	namespace, name := l.locate(name)
	s, err := l.cp.API.CoreV1().Services(namespace).Get(l.ctx, name, metav1.GetOptions{})
	if err != nil {
		l.t.Fatalf("getting service %s: %v", name, err)
	}
	return s
}

// Edit changes a Service of the story, and again if somebody else changed it
// meanwhile.
func (l *Lab) Edit(name string, change func(*corev1.Service)) {
	l.t.Helper()
	for {
		s := l.Service(name)
		change(s)
		_, err := l.cp.API.CoreV1().Services(s.Namespace).Update(l.ctx, s, metav1.UpdateOptions{})
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			l.t.Fatalf("updating service %s: %v", name, err)
		}
	}
}

// Addresses returns the addresses that stand in the status of a Service.
func Addresses(s *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// WaitAddress waits until the Service has an address, and returns the first.
func (l *Lab) WaitAddress(name string) netip.Addr {
	l.t.Helper()
	var addrs []netip.Addr
	l.Eventually("service "+name+" has an address", func() error {
		if addrs = Addresses(l.Service(name)); len(addrs) == 0 {
			return errors.New("it has none")
		}
		return nil
	})
	return addrs[0]
}

// WaitNoAddress waits until the Service has no address.
func (l *Lab) WaitNoAddress(name string) {
	l.t.Helper()
	l.Eventually("service "+name+" has no address", func() error {
		if addrs := Addresses(l.Service(name)); len(addrs) > 0 {
			return fmt.Errorf("it has %v", addrs)
		}
		return nil
	})
}

// Condition returns Herald's condition AddressAssigned of the Service.
func (l *Lab) Condition(name string) metav1.Condition {
	l.t.Helper()
	return l.ConditionOf(name, "herald-lb.io/AddressAssigned")
}

// ConditionOf returns the condition of this type of the Service; the zero one if
// there is none.
func (l *Lab) ConditionOf(name, kind string) metav1.Condition {
	l.t.Helper()
	for _, c := range l.Service(name).Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

// Events returns the events about a Service of the story, as "Reason: message".
func (l *Lab) Events(name string) []string {
	l.t.Helper()
	var lines []string
	namespace, name := l.locate(name)
	old, err := l.cp.API.CoreV1().Events(namespace).List(l.ctx, metav1.ListOptions{})
	if err != nil {
		l.t.Fatalf("listing events: %v", err)
	}
	for _, e := range old.Items {
		if e.InvolvedObject.Kind == "Service" && e.InvolvedObject.Name == name {
			lines = append(lines, e.Reason+": "+e.Message)
		}
	}
	return lines
}

// Leader returns the controller that holds the Lease.
func (l *Lab) Leader() (*Daemon, error) {
	lease, err := l.cp.API.CoordinationV1().Leases(heraldNamespace).Get(l.ctx, "herald-controller", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	holder := ptr.Deref(lease.Spec.HolderIdentity, "")
	for _, c := range l.Controllers {
		if c.name == holder {
			return c, nil
		}
	}
	return nil, fmt.Errorf("the Lease is held by %q, which is none of the controllers", holder)
}

// Silent says whether nobody answers for any of addrs.
func (l *Lab) Silent(addrs ...netip.Addr) error {
	answers, err := l.Client.WhoHas(300*time.Millisecond, addrs...)
	if err != nil {
		return err
	}
	for addr, macs := range answers {
		return fmt.Errorf("%v answers for %s", macs, addr)
	}
	return nil
}

// NoRows says whether no kernel of a node steers any of addrs.
func (l *Lab) NoRows(addrs ...netip.Addr) error {
	for _, n := range l.nodes {
		kernel, err := n.Kernel()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if mentions(kernel, a) {
				return fmt.Errorf("node %s has rows for %s:\n%s", n.Name, a, kernel)
			}
		}
	}
	return nil
}

// mentions says whether addr stands in text, and not only as the beginning of
// a longer one.
func mentions(text string, addr netip.Addr) bool {
	a := addr.String()
	for rest := text; ; {
		i := strings.Index(rest, a)
		if i < 0 {
			return false
		}
		rest = rest[i+len(a):]
		if rest == "" || !strings.ContainsAny(rest[:1], "0123456789abcdef.") {
			return true
		}
	}
}

// Kubectl runs the real kubectl as an administrator, in the story's namespace.
func (l *Lab) Kubectl(args ...string) (string, error) {
	kubectl, err := Tool("KUBECTL")
	if err != nil {
		return "", err
	}
	args = append([]string{"--kubeconfig", l.cp.Kubeconfig("admin"), "--namespace", l.Namespace}, args...)
	var out []byte
	err = l.cp.hub.Do(func() (err error) {
		out, err = exec.CommandContext(l.ctx, kubectl, args...).CombinedOutput()
		return err
	})
	return string(out), err
}

// Herald runs herald as a person would who may do everything, and returns what
// it prints on standard output, and its exit code.
func (l *Lab) Herald(stdin string, args ...string) (out string, code int) {
	l.t.Helper()
	return l.herald(l.cp.hub, "admin", stdin, args)
}

// Herald runs herald on the node with the rights of its speaker, as in the
// speaker's pod.
func (n *Node) Herald(args ...string) (out string, code int) {
	n.lab.t.Helper()
	return n.lab.herald(n.Namespace, "speaker", "", args)
}

// HeraldAsAdmin runs herald on the node as a person would who may do everything.
func (n *Node) HeraldAsAdmin(args ...string) (out string, code int) {
	n.lab.t.Helper()
	return n.lab.herald(n.Namespace, "admin", "", args)
}

func (l *Lab) herald(in *Namespace, user, stdin string, args []string) (out string, code int) {
	l.t.Helper()
	args = append(args, "--kubeconfig", l.cp.Kubeconfig(user))
	err := in.Do(func() error {
		cmd := exec.CommandContext(l.ctx, l.cp.herald, args...)
		cmd.Stdin = strings.NewReader(stdin)
		said, err := cmd.Output()
		out = string(said)
		return err
	})
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return out + string(exit.Stderr), exit.ExitCode()
	case err != nil:
		l.t.Fatalf("running herald %v: %v", args, err)
	}
	return out, 0
}

// renewNode does what a kubelet does every ten seconds.
func (a *API) renewNode(ctx context.Context, name string) error {
	leases := a.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now, seconds := metav1.NowMicro(), int32(40)
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
		lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &seconds, RenewTime: &now}
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = &now
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}
