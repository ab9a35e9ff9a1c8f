package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A Node is a node of the cluster with its speaker.
type Node struct {
	*Host
	Name      string // n1, n2, …
	Speaker   *Daemon
	KubeProxy *Daemon // the last that was started; nil if none was
	lab       *Lab
	index     int
}

// Kill ends the node's speaker as a crash does.
func (n *Node) Kill() { n.Speaker.Kill() }

// Stop ends the node's speaker as an upgrade does.
func (n *Node) Stop() { n.lab.t.Helper(); n.Speaker.Stop() }

// StartSpeaker starts the node's speaker.
func (n *Node) StartSpeaker() { n.lab.t.Helper(); n.Speaker.Start() }

// Freeze halts the node's speaker.
func (n *Node) Freeze() { n.lab.t.Helper(); n.Speaker.Freeze() }

// Thaw lets the node's speaker go on.
func (n *Node) Thaw() { n.lab.t.Helper(); n.Speaker.Thaw() }

// StateDir is what the speaker gets as --state-dir.
func (n *Node) StateDir() string { return filepath.Join(n.lab.cp.run, n.lab.name+"-"+n.Name) }

// MemoryDir is what the speaker gets as --memory-dir.
func (n *Node) MemoryDir() string { return filepath.Join(n.StateDir(), "memory") }

// Tiers are the namespaces that a speaker with IPVS has its rows in.
var Tiers = []string{"lb", "front", "back"}

// Pinned is where the speaker pins one of Tiers.
func (n *Node) Pinned(tier string) string { return filepath.Join(n.StateDir(), "netns", tier) }

// DataPath says what steers on this node: "ipvs" or "nft".
func (n *Node) DataPath() string {
	if _, err := os.Stat(n.Pinned("lb")); err == nil {
		return "ipvs"
	}
	return "nft"
}

// Inside is InTier for the tier of clients on the node, and of those whose
// address is not kept.
func (n *Node) Inside(args ...string) (string, error) { return n.InTier("lb", args...) }

// InTier runs a program in one of the namespaces of Tiers.
func (n *Node) InTier(tier string, args ...string) (string, error) {
	handle, err := netns.GetFromPath(n.Pinned(tier))
	if err != nil {
		return "", fmt.Errorf("opening %s: %w", n.Pinned(tier), err)
	}
	defer handle.Close()
	return execIn(handle, args)
}

// Kernel returns everything that Herald has put into the node's kernel to
// steer, without counters, as sorted lines: two readings are equal if and only
// if nothing has changed.
func (n *Node) Kernel() (string, error) {
	nft := []string{"nft", "-s", "list", "ruleset"}
	listing, err := n.Exec(nft...)
	if err != nil {
		return "", err
	}
	parts := []string{"host:\n" + heraldTables(listing)}
	if n.DataPath() == "ipvs" {
		for _, tier := range Tiers {
			rows, err := n.InTier(tier, "ipvsadm", "-Sn")
			inside, errNft := n.InTier(tier, nft...)
			if err := errors.Join(err, errNft); err != nil {
				return "", err
			}
			parts = append(parts, tier+":\n"+sortLines(rows)+"\n"+sortLines(inside))
		}
	}
	routes, err := n.routes()
	return strings.Join(append(parts, "routes:\n"+routes), "\n"), err
}

// routes returns the node's routes in all tables, but those of the kernel.
func (n *Node) routes() (string, error) {
	routes, err := n.links.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", fmt.Errorf("listing the routes of %s: %w", n.Name, err)
	}
	var lines []string
	for _, r := range routes {
		if r.Protocol != 2 { // RTPROT_KERNEL
			lines = append(lines, r.String())
		}
	}
	return sortLines(strings.Join(lines, "\n")), nil
}

// heraldTables cuts the tables that are Herald's out of a listing. Before the
// next table nft may have a comment on that.
func heraldTables(listing string) string {
	var ours []string
	for table := range strings.SplitSeq("\n"+listing, "\ntable ") {
		if head, _, _ := strings.Cut(table, "\n"); strings.HasPrefix(head, "inet herald ") {
			table, _, _ = strings.Cut(table, "\n# ")
			ours = append(ours, table)
		}
	}
	return sortLines(strings.Join(ours, "\n"))
}

// sortLines brings the lines, and the elements within a line, into one order:
// the kernel lists hash tables in its own.
func sortLines(text string) string {
	text = strings.NewReplacer(", ", "\n", "{ ", "{\n", " }", "\n}").Replace(text)
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSuffix(strings.TrimSpace(line), ","); line != "" && line != "}" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Unplug pulls the cable of the node on the segment.
func (n *Node) Unplug() {
	n.lab.t.Helper()
	if err := n.lab.net.sw.down(n.Name); err != nil {
		n.lab.t.Fatalf("unplugging %s: %v", n.Name, err)
	}
}

// Replug puts the cable back.
func (n *Node) Replug() {
	n.lab.t.Helper()
	if err := n.lab.net.sw.up(n.Name); err != nil {
		n.lab.t.Fatalf("plugging %s: %v", n.Name, err)
	}
}

// object returns the node as the API has it.
func (n *Node) object() *corev1.Node {
	a4, a6 := lanAddrs(nodeNumber(n.index))
	cidr4, cidr6 := podCIDRs(n.index)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{
			corev1.LabelHostname: n.Name, corev1.LabelOSStable: "linux",
		}},
		Spec: corev1.NodeSpec{PodCIDR: cidr4, PodCIDRs: []string{cidr4, cidr6}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: a4},
				{Type: corev1.NodeInternalIP, Address: a6},
				{Type: corev1.NodeHostName, Address: n.Name},
			},
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
				LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
			}},
			NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", OperatingSystem: "linux"},
		},
	}
}

// Stranger registers a Node of which the lab has nothing but its addresses.
func (l *Lab) Stranger(name string, addrs ...string) {
	l.t.Helper()
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addrs {
		o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	if err := l.cp.API.createNode(l.ctx, o); err != nil {
		l.t.Fatalf("creating node %s: %v", name, err)
	}
}

// createNode creates a Node with its status.
func (a *API) createNode(ctx context.Context, o *corev1.Node) error {
	nodes := a.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, o, metav1.CreateOptions{}); err != nil {
		return err
	}
	// A patch, for the node controller writes here too.
	_, err := nodes.Patch(ctx, o.Name, types.MergePatchType, statusPatch(o.Status), metav1.PatchOptions{}, "status")
	return err
}

// DeleteNode deletes a Node.
func (l *Lab) DeleteNode(name string) {
	l.t.Helper()
	if err := l.cp.API.CoreV1().Nodes().Delete(l.ctx, name, atOnce()); err != nil {
		l.t.Fatalf("deleting node %s: %v", name, err)
	}
}
