package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// firstPod is the last part of the address of the first pod of a node.
const firstPod = 10

// A PodSpec is what makes pods differ. The zero value serves port 8080.
type PodSpec struct {
	Labels map[string]string
	Ports  []PodPort
	// Unready pods are not ready until Ready(true).
	Unready bool
}

// A PodPort is one port that the pod serves, over TCP and UDP both.
type PodPort struct {
	Name   string // for named target ports; may be empty
	Number int
}

// App returns the label app=name.
func App(name string) map[string]string { return map[string]string{"app": name} }

// A Pod is a namespace on a node, with a server in it, and a Pod object.
type Pod struct {
	Name  string
	Addr4 netip.Addr
	Addr6 netip.Addr

	lab    *Lab
	node   *Node
	ns     *Namespace
	server *podServer
	ready  bool
}

// Pod starts a pod on node i and tells the API that it runs.
func (l *Lab) Pod(i int, name string, spec PodSpec) *Pod {
	l.t.Helper()
	if len(spec.Ports) == 0 {
		spec.Ports = []PodPort{{Number: 8080}}
	}
	l.pods++
	number := firstPod + l.pods
	a4, a6 := podAddrs(i, number)
	p := &Pod{
		Name: name, Addr4: netip.MustParseAddr(a4), Addr6: netip.MustParseAddr(a6),
		lab: l, node: l.Node(i), ready: !spec.Unready,
	}
	var err error
	if p.ns, err = l.net.pod(i, fmt.Sprintf("pod-%d", number), number); err != nil {
		l.t.Fatalf("starting pod %s: %v", name, err)
	}
	if p.server, err = servePod(p.ns, name, spec.Ports); err != nil {
		l.t.Fatalf("starting pod %s: %v", name, err)
	}
	l.running = append(l.running, p)
	pods := l.cp.API.CoreV1().Pods(l.Namespace)
	if _, err := pods.Create(l.ctx, p.object(spec), metav1.CreateOptions{}); err != nil {
		l.t.Fatalf("creating pod %s: %v", name, err)
	}
	p.patch()
	return p
}

// Host returns the pod as a machine on the network, for what it asks itself.
func (p *Pod) Host() *Host { return &Host{Namespace: p.ns} }

// Ready makes the pod ready or not. Its server answers either way.
func (p *Pod) Ready(ready bool) {
	p.lab.t.Helper()
	p.ready = ready
	p.patch()
}

// Terminate asks for the deletion of the pod, which goes on serving: its
// endpoint is terminating. Delete ends it.
func (p *Pod) Terminate() {
	p.lab.t.Helper()
	grace := int64(300)
	p.delete(metav1.DeleteOptions{GracePeriodSeconds: &grace})
}

// Delete ends the pod at once: nobody answers at its address any more.
func (p *Pod) Delete() {
	p.lab.t.Helper()
	p.delete(atOnce())
	p.lab.running = slices.DeleteFunc(p.lab.running, func(q *Pod) bool { return q == p })
	p.server.close()
	if err := p.lab.net.drop(p.ns); err != nil {
		p.lab.t.Fatalf("removing pod %s: %v", p.Name, err)
	}
}

func (p *Pod) delete(how metav1.DeleteOptions) {
	p.lab.t.Helper()
	err := p.lab.cp.API.CoreV1().Pods(p.lab.Namespace).Delete(p.lab.ctx, p.Name, how)
	if err := ignoreNotFound(err); err != nil {
		p.lab.t.Fatalf("deleting pod %s: %v", p.Name, err)
	}
}

// patch writes the pod's status, as its kubelet would.
func (p *Pod) patch() {
	p.lab.t.Helper()
	pods := p.lab.cp.API.CoreV1().Pods(p.lab.Namespace)
	_, err := pods.Patch(p.lab.ctx, p.Name, types.MergePatchType, statusPatch(p.status()), metav1.PatchOptions{}, "status")
	if err != nil {
		p.lab.t.Fatalf("writing the status of pod %s: %v", p.Name, err)
	}
}

func (p *Pod) status() corev1.PodStatus {
	ready := corev1.ConditionFalse
	if p.ready {
		ready = corev1.ConditionTrue
	}
	nodeAddr, _ := lanAddrs(nodeNumber(p.node.index))
	s := corev1.PodStatus{
		Phase:   corev1.PodRunning,
		HostIP:  nodeAddr,
		HostIPs: []corev1.HostIP{{IP: nodeAddr}},
		PodIP:   p.Addr4.String(),
		PodIPs:  []corev1.PodIP{{IP: p.Addr4.String()}, {IP: p.Addr6.String()}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "server", Image: "none", Ready: p.ready,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}},
	}
	for _, c := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: c, Status: ready, LastTransitionTime: metav1.Now()})
	}
	return s
}

// statusPatch returns the merge patch that writes a status.
func statusPatch(status any) []byte {
	patch, _ := json.Marshal(map[string]any{"status": status}) // API types marshal always
	return patch
}

func (p *Pod) object(spec PodSpec) *corev1.Pod {
	var ports []corev1.ContainerPort
	for _, port := range spec.Ports {
		ports = append(ports, corev1.ContainerPort{Name: port.Name, ContainerPort: int32(port.Number)})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: spec.Labels},
		Spec: corev1.PodSpec{
			NodeName:   p.node.Name,
			Containers: []corev1.Container{{Name: "server", Image: "none", Ports: ports}},
		},
	}
}
