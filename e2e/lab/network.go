package lab

import (
	"errors"
	"fmt"
	"net"
	"slices"
)

// The address plan. doc.go has the picture.
const (
	lan4, lan6   = "192.168.50.%d", "fd50::%d" // both end in the same digits
	far4, far6   = "198.51.100.7", "fd99::7"
	pod4, pod6   = "10.244.%d.%d", "fd10:244:%d::%d"
	allPods      = "10.244.0.0/16,fd10:244::/32"
	apiServer    = "10.78.0.1"
	management   = "10.78.0.%d"
	hubPort      = "to-%s" // a node's port on the management bridge
	firstNode    = 10      // node 1 is .11 everywhere
	routerNumber = 1
	clientNumber = 100
)

// nodeNumber is the last part of the addresses of node i.
func nodeNumber(i int) int { return firstNode + i }

func lanAddrs(n int) (string, string) { return fmt.Sprintf(lan4, n), fmt.Sprintf(lan6, n) }

func podAddrs(node, n int) (string, string) {
	return fmt.Sprintf(pod4, node, n), fmt.Sprintf(pod6, node, n)
}

func podCIDRs(node int) (string, string) {
	return fmt.Sprintf(pod4+"/24", node, 0), fmt.Sprintf("fd10:244:%d::/64", node)
}

// A network is the hosts of one lab and what joins them.
type network struct {
	prefix string
	hub    *Namespace // the management network
	sw     *Namespace // the switch of the segment
	client *Host
	router *Host
	far    *Host
	nodes  []*Host
	made   []*Namespace // all but hub, in the order they were made
}

// newNetwork builds the network. What it returns is to be closed even if there
// is an error.
func newNetwork(prefix string, hub *Namespace, nodes int) (*network, error) {
	n := &network{prefix: prefix, hub: hub}
	steps := []func() error{n.addSwitch, n.addRouter, n.addClient}
	for i := range nodes {
		steps = append(steps, func() error { return n.addNode(i+1, nodes) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return n, fmt.Errorf("building the network: %w", err)
		}
	}
	return n, nil
}

func (n *network) namespace(name string) (*Namespace, error) {
	ns, err := newNamespace(n.prefix + name)
	if ns != nil {
		n.made = append(n.made, ns)
	}
	return ns, err
}

func (n *network) addSwitch() (err error) {
	if n.sw, err = n.namespace("switch"); err != nil {
		return err
	}
	return n.sw.bridge("br0")
}

// host makes a namespace with an eth0 on the segment.
func (n *network) host(name string, number int) (*Host, error) {
	ns, err := n.namespace(name)
	if err != nil {
		return nil, err
	}
	// The MAC address tells the IPv4 address, for those who read captures.
	mac := net.HardwareAddr{2, 0, 192, 168, 50, byte(number)}
	err = cable(plug{ns: n.sw, link: name, bridge: "br0"}, plug{ns: ns, link: "eth0", mac: mac.String()})
	if err != nil {
		return nil, err
	}
	a4, a6 := lanAddrs(number)
	return &Host{Namespace: ns, mac: mac}, ns.address("eth0", a4+"/24", a6+"/64")
}

func (n *network) addRouter() (err error) {
	if n.router, err = n.host("router", routerNumber); err != nil {
		return err
	}
	far, err := n.namespace("far")
	if err != nil {
		return err
	}
	n.far = &Host{Namespace: far}
	return errors.Join(
		n.router.forward(),
		n.router.spread(),
		cable(plug{ns: n.router.Namespace, link: "down0"}, plug{ns: far, link: "eth0"}),
		n.router.address("down0", "198.51.100.1/24", "fd99::1/64"),
		far.address("eth0", far4+"/24", far6+"/64"),
		far.route("default", "198.51.100.1"),
		far.route("default", "fd99::1"),
	)
}

func (n *network) addClient() (err error) {
	if n.client, err = n.host("client", clientNumber); err != nil {
		return err
	}
	return n.client.viaRouter()
}

// addNode makes node i of total with its bridge for pods and its leg in the
// management network.
func (n *network) addNode(i, total int) error {
	name := fmt.Sprintf("n%d", i)
	h, err := n.host(name, nodeNumber(i))
	if err != nil {
		return err
	}
	n.nodes = append(n.nodes, h)
	gw4, gw6 := podAddrs(i, 1)
	port := plug{ns: n.hub, link: fmt.Sprintf(hubPort, name), bridge: hubBridge}
	err = errors.Join(
		h.forward(),
		h.viaRouter(),
		h.bridge("cni0"),
		h.address("cni0", gw4+"/24", gw6+"/64"),
		cable(port, plug{ns: h.Namespace, link: "eth1"}),
		h.address("eth1", fmt.Sprintf(management+"/24", nodeNumber(i))),
	)
	if err != nil {
		return err
	}
	return h.podRoutes(i, total)
}

func (h *Host) forward() error {
	return h.sysctls(map[string]string{"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"})
}

// spread has the host choose among equal ways by addresses and ports, as routers do.
func (h *Host) spread() error {
	return h.sysctls(map[string]string{"net.ipv4.fib_multipath_hash_policy": "1", "net.ipv6.fib_multipath_hash_policy": "1"})
}

func (h *Host) viaRouter() error {
	gw4, gw6 := lanAddrs(routerNumber)
	return errors.Join(h.route("default", gw4), h.route("default", gw6))
}

// podRoutes leads to the pods of the other nodes, as a CNI would.
func (h *Host) podRoutes(self, total int) error {
	var errs []error
	for i := 1; i <= total; i++ {
		if i == self {
			continue
		}
		via4, via6 := lanAddrs(nodeNumber(i))
		cidr4, cidr6 := podCIDRs(i)
		errs = append(errs, h.route(cidr4, via4), h.route(cidr6, via6))
	}
	return errors.Join(errs...)
}

// pod makes a namespace with addresses on the bridge of node i.
func (n *network) pod(i int, name string, number int) (*Namespace, error) {
	ns, err := n.namespace(name)
	if err != nil {
		return nil, err
	}
	node := n.nodes[i-1]
	port := fmt.Sprintf("pod%d", number)
	a4, a6 := podAddrs(i, number)
	gw4, gw6 := podAddrs(i, 1)
	err = errors.Join(
		cable(plug{ns: node.Namespace, link: port, bridge: "cni0"}, plug{ns: ns, link: "eth0"}),
		node.hairpin(port),
		ns.address("eth0", a4+"/24", a6+"/64"),
		ns.route("default", gw4),
		ns.route("default", gw6),
	)
	return ns, err
}

// hairpin lets a frame leave where it came in, as bridge CNIs do: a pod may be
// answered by itself.
func (h *Host) hairpin(port string) error {
	link, err := h.links.LinkByName(port)
	if err != nil {
		return fmt.Errorf("finding port %s: %w", port, err)
	}
	return h.links.LinkSetHairpin(link, true)
}

// drop takes one namespace out of the network.
func (n *network) drop(ns *Namespace) error {
	n.made = slices.DeleteFunc(n.made, func(m *Namespace) bool { return m == ns })
	return ns.close()
}

// close takes everything away. The ports in the hub go first and by name: the
// kernel takes a namespace down at its leisure, and the next lab wants them.
func (n *network) close() error {
	var errs []error
	for i := range n.nodes {
		if port, err := n.hub.links.LinkByName(fmt.Sprintf(hubPort, fmt.Sprintf("n%d", i+1))); err == nil {
			errs = append(errs, n.hub.links.LinkDel(port))
		}
	}
	for _, ns := range slices.Backward(n.made) {
		errs = append(errs, ns.close())
	}
	n.made = nil
	return errors.Join(errs...)
}
