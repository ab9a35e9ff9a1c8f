package metallb

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/v1alpha1"
)

// A peer is a BGPPeer or an entry of the ConfigMap's peers.
type peer struct {
	origin
	meta metav1.ObjectMeta
	spec bgpPeerSpec
	old  bool // so old that a holdTime of 0s is none given
}

// A Peer is a BGPPeer with where it comes from.
type Peer struct {
	Object v1alpha1.BGPPeer
	Secret *corev1.Secret // of a password that stood in the object; nil for none
	From   string         // object of MetalLB's
	Lost   []string       // what has no equivalent, and concerns this peer
}

// migratePeers translates the routers, and returns them as Herald would have them.
func (in *input) migratePeers(r *Result) []config.Peer {
	var objects []v1alpha1.BGPPeer
	for i, p := range in.peers {
		if i > 0 && p.meta.Name == in.peers[i-1].meta.Name {
			in.add(Missing, p.origin, "", "no equivalent: %s has the same name, and BGPPeers belong to the cluster; rename one, and the BGPAdvertisements that name it",
				in.peers[i-1].object)
			continue
		}
		if p.spec.VRF != "" {
			in.lostPeers[p.meta.Name] = true
			in.add(Missing, p.origin, "spec.vrf", "no equivalent: Herald has its sessions outside of VRFs, and there the address may be another router's; "+
				"no BGPPeer is written: make the router reachable without VRF %s and write one", p.spec.VRF)
			continue
		}
		out := in.translatePeer(p)
		r.Peers = append(r.Peers, out)
		objects = append(objects, out.Object)
	}
	for i := range in.profiles {
		in.noteProfile(i)
	}
	compiled, problems := v1alpha1.CompilePeers(objects, nil)
	r.PeerProblems = problems
	return compiled
}

// translatePeer returns p in Herald's words.
func (in *input) translatePeer(p peer) Peer {
	out := Peer{From: p.object, Object: v1alpha1.BGPPeer{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "BGPPeer"},
		ObjectMeta: metav1.ObjectMeta{Name: p.meta.Name},
	}}
	before := len(in.list)
	out.Object.Labels = in.carry(p.origin, "metadata.labels", p.meta.Labels)
	out.Object.Annotations = in.carry(p.origin, "metadata.annotations", p.meta.Annotations)
	s := &out.Object.Spec
	in.router(p, s)
	in.families(p, s)
	in.times(p, s)
	in.password(p, &out)
	s.BFD = in.bfd(p)
	if p.spec.NodeSelectors != nil {
		in.add(Done, p.origin, "spec.nodeSelectors", "translated to nodeSelector")
	}
	s.NodeSelector = in.one(p.origin, "spec.nodeSelectors", "nodes", unionOf(p.spec.NodeSelectors), "write a second BGPPeer for the nodes that only the others select")
	out.Lost = in.lostSince(before)
	return out
}

// defaultPort is BGP's.
const defaultPort = 179

// router translates which router it is, and how it is spoken to.
func (in *input) router(p peer, s *v1alpha1.BGPPeerSpec) {
	from := p.spec
	s.MyASN, s.PeerASN, s.LocalASN = v1alpha1.ASN(from.MyASN), v1alpha1.ASN(from.PeerASN), v1alpha1.ASN(from.LocalASN)
	s.Address, s.Interface, s.SourceAddress, s.RouterID = plain(from.PeerAddress), from.Interface, plain(from.SourceAddress), plain(from.RouterID)
	s.Internal, s.External, s.EBGPMultihop = from.DynamicASN == "internal", from.DynamicASN == "external", from.EBGPMultiHop
	for _, f := range []struct {
		field, to string
		set       bool
	}{
		{"myASN", "myASN", from.MyASN != 0}, {"peerASN", "peerASN", from.PeerASN != 0},
		{"dynamicASN", from.DynamicASN, s.Internal || s.External},
		{"peerAddress", "address", from.PeerAddress != ""}, {"interface", "interface", from.Interface != ""},
		{"sourceAddress", "sourceAddress", from.SourceAddress != ""}, {"routerID", "routerID", from.RouterID != ""},
		{"peerPort", "port", from.PeerPort != 0 && from.PeerPort != defaultPort}, {"ebgpMultiHop", "ebgpMultihop", from.EBGPMultiHop},
		{"enableGracefulRestart", "gracefulRestart, with the 120s that FRR has", from.EnableGracefulRestart},
	} {
		if f.set {
			in.add(Done, p.origin, "spec."+f.field, "translated to %s", f.to)
		}
	}
	if from.PeerPort == defaultPort {
		in.add(Done, p.origin, "spec.peerPort", "is the default (%d)", defaultPort)
	} else {
		s.Port = int32(from.PeerPort)
	}
	if from.EnableGracefulRestart {
		s.GracefulRestart = metav1.Duration{Duration: 120 * time.Second}
	}
	if from.LocalASN != 0 {
		in.add(Attention, p.origin, "spec.localASN", "translated to localASN: MetalLB with frr-k8s, its default since 0.16, shows the router myASN all the same; "+
			"leave it out if the router knows the nodes as %d", from.MyASN)
	}
	if from.DynamicASN != "" && !s.Internal && !s.External {
		in.add(Missing, p.origin, "spec.dynamicASN", "no equivalent: %q is not known; write internal: true or external: true", from.DynamicASN)
	}
}

// plain returns the address that text is as Herald writes it. What is none stays as it
// is, for CompilePeers to complain of.
func plain(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap().String()
	}
	return text
}

// families translates of which families the router is told addresses. If nothing is
// said it is that of the session since MetalLB 0.15; before, it was both.
func (in *input) families(p peer, s *v1alpha1.BGPPeerSpec) {
	addr, err := netip.ParseAddr(s.Address)
	both := p.spec.DualStackAddressFamily || err != nil // over an interface MetalLB always tells both
	switch {
	case both:
	case addr.Is4():
		s.Families = []v1alpha1.Family{v1alpha1.FamilyIPv4}
	default:
		s.Families = []v1alpha1.Family{v1alpha1.FamilyIPv6}
	}
	if p.spec.DualStackAddressFamily {
		in.add(Done, p.origin, "spec.dualStackAddressFamily", "is Herald's default")
	}
	switch {
	case p.spec.DisableMP && both:
		in.add(Done, p.origin, "spec.disableMP", "left out: both families are asked for elsewhere")
	case p.spec.DisableMP:
		in.add(Done, p.origin, "spec.disableMP", "translated to families")
	}
}

// password translates the password, which for Herald stands in a Secret.
func (in *input) password(p peer, out *Peer) {
	text, ref := p.spec.Password, p.spec.PasswordSecret
	switch {
	case ref == nil:
	case ref.Name == "":
		in.add(Done, p.origin, "spec.passwordSecret", "is empty: left out")
	default:
		out.Object.Spec.PasswordSecretRef = &v1alpha1.SecretKeyReference{Name: ref.Name}
		in.add(Attention, p.origin, "spec.passwordSecret", "translated to passwordSecretRef, for which Herald looks in its own namespace: copy Secret %s to %s",
			qualified(p.meta.Namespace, ref.Name), in.namespace)
		if text != "" {
			in.add(Missing, p.origin, "spec.password", "no equivalent: there is passwordSecret, too, and a session has one password; leave one out")
		}
		return
	}
	if text == "" {
		return
	}
	name := "bgp-" + p.meta.Name
	out.Object.Spec.PasswordSecretRef = &v1alpha1.SecretKeyReference{Name: name}
	out.Secret = &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: in.namespace},
		Data:       map[string][]byte{"password": []byte(text)},
	}
	in.add(Attention, p.origin, "spec.password", "written as Secret %s/%s, which passwordSecretRef names: keep the output where you keep Secrets", in.namespace, name)
}

// names of the times of a session.
const (
	holdTime      = "spec.holdTime"
	keepaliveTime = "spec.keepaliveTime"
	connectTime   = "spec.connectTime"
)

// longestKeepalive is how long keepaliveTime may be with Herald.
const longestKeepalive = 21845 * time.Second

// times translates the times. Of the hold time and the keepalive time MetalLB makes the
// one that is missing from the other (internal/config, parseTimers). Like MetalLB,
// Herald takes whole seconds.
func (in *input) times(p peer, s *v1alpha1.BGPPeerSpec) {
	if retry, ok := in.duration(p, connectTime, p.spec.ConnectTime); ok {
		in.add(Done, p.origin, connectTime, "translated to connectRetry")
		s.ConnectRetry = seconds(retry)
	}
	hold, given := in.duration(p, holdTime, p.spec.HoldTime)
	switch {
	case given && hold == 0 && p.old:
		given = false
		in.add(Done, p.origin, holdTime, "is the default: 0s is none given")
	case given && hold == 0:
		in.add(Attention, p.origin, holdTime, "translated to holdTime: with 0s no silence ends a session, while older versions of MetalLB took 0s for the default; "+
			"leave it out if you have not written it yourself")
	case given:
		in.add(Done, p.origin, holdTime, "translated to holdTime")
	}
	alive, ok := in.duration(p, keepaliveTime, p.spec.KeepaliveTime)
	if !given {
		hold = 3 * alive
	}
	if given || hold != 0 {
		rounded := seconds(hold)
		s.HoldTime = &rounded
		in.keepalive(p, s, ok, seconds(alive), rounded)
	} else if ok {
		in.add(Done, p.origin, keepaliveTime, "is the default: 0s is none given")
	}
}

// keepalive translates the keepalive time beside a hold time; given is whether there
// is one.
func (in *input) keepalive(p peer, s *v1alpha1.BGPPeerSpec, given bool, alive, hold metav1.Duration) {
	switch {
	case !given:
	case alive.Duration == 0 || hold.Duration == 0:
		in.add(Done, p.origin, keepaliveTime, "left out: it follows from holdTime")
	case alive.Duration >= hold.Duration || alive.Duration > longestKeepalive:
		in.add(Attention, p.origin, keepaliveTime, "left out: it is not shorter than holdTime, or too long, and would end sessions; a third of holdTime is used")
	default:
		in.add(Done, p.origin, keepaliveTime, "translated to keepaliveTime")
		s.KeepaliveTime = alive
	}
}

// duration reads a time; ok is false if there is none.
func (in *input) duration(p peer, field, text string) (d time.Duration, ok bool) {
	if text == "" {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		in.add(Missing, p.origin, field, "no equivalent: %q is no time, and left out; write one like 90s", text)
		return 0, false
	}
	return d, true
}

func seconds(d time.Duration) metav1.Duration {
	return metav1.Duration{Duration: d.Truncate(time.Second)}
}

func comparePeers(a, b peer) int {
	return slices.Compare([]string{a.meta.Name, a.object}, []string{b.meta.Name, b.object})
}
