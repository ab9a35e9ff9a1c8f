package kube

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/snapshot"
)

func (st *stage) peer(p *v1alpha1.BGPPeer, gone bool) {
	p.ResourceVersion = st.next()
	st.bring(st.informers.peers, st.peerChanged, p, gone)
}

// secret plays the watch of a Secret with this password under the key password; ""
// for none.
func (st *stage) secret(name, password string, gone bool) {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: st.o.Namespace, ResourceVersion: st.next()}}
	if password != "" {
		s.Data = map[string][]byte{"password": []byte(password)}
	}
	st.bring(st.informers.secrets, st.secretChanged, s, gone)
}

func (st *stage) node(n *corev1.Node) {
	n.ResourceVersion = st.next()
	st.bring(st.informers.nodes, st.nodeChanged, n, false)
}

func (st *stage) look() snapshot.Snapshot {
	st.hear()
	return st.take()
}

func router(name string) *v1alpha1.BGPPeer {
	return &v1alpha1.BGPPeer{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.BGPPeerSpec{MyASN: 65000, PeerASN: 65001, Address: "192.0.2.1"},
	}
}

func selecting(labels map[string]string) *v1alpha1.Selector {
	return &v1alpha1.Selector{LabelSelector: metav1.LabelSelector{MatchLabels: labels}}
}

// A password comes and changes with its Secret. One that is gone, or that became one
// that no kernel takes, stays in use: a session that works is not ended for it. It is
// said, though.
func TestThePasswordOfAPeerFollowsItsSecret(t *testing.T) {
	st := newStage("n1")
	st.o.Namespace = "herald-system"
	p := router("r")
	p.Spec.PasswordSecretRef = &v1alpha1.SecretKeyReference{Name: "bgp"}
	open, long := router("open"), strings.Repeat("x", config.LongestPassword+1)
	elsewhere := router("r")
	elsewhere.Spec.PasswordSecretRef = &v1alpha1.SecretKeyReference{Name: "nowhere"}
	steps := []struct {
		name string
		do   func()
		want string
		kept string // in why it is the last one
	}{
		{"there is no Secret", func() { st.peer(p, false); st.peer(open, false) }, "", ""},
		{"another one", func() { st.secret("other", "x", false) }, "", ""},
		{"there it is, without the key", func() { st.secret("bgp", "", false) }, "", ""},
		{"and with one that is too long", func() { st.secret("bgp", long, false) }, long, ""},
		{"which was of no use to anybody", func() { st.secret("bgp", "", true) }, "", ""},
		{"with the right one", func() { st.secret("bgp", "one", false) }, "one", ""},
		{"it changes", func() { st.secret("bgp", "two", false) }, "two", ""},
		{"the key goes", func() { st.secret("bgp", "", false) }, "two", "no Secret bgp with a key password"},
		{"it goes", func() { st.secret("bgp", "", true) }, "two", "no Secret bgp with a key password"},
		{"it is made anew", func() { st.secret("bgp", "three", false) }, "three", ""},
		{"it is too long", func() { st.secret("bgp", long, false) }, "three", "longer than 80 bytes"},
		{"it is as long as may be", func() { st.secret("bgp", long[1:], false) }, long[1:], ""},
		{"the peer wants one that is not there", func() { st.peer(elsewhere, false) }, long[1:], "no Secret nowhere with a key password"},
		{"the peer goes", func() { st.peer(p, true) }, "", ""},
	}
	for _, step := range steps {
		step.do()
		s := st.look()
		if got := s.Passwords["r"]; got != step.want {
			t.Errorf("%s: password %q, want %q", step.name, got, step.want)
		}
		if got := s.PasswordsKept["r"]; (got == "") != (step.kept == "") || !strings.Contains(got, step.kept) {
			t.Errorf("%s: it is the last one for %q, want %q", step.name, got, step.kept)
		}
		if got, is := s.Passwords["open"]; is {
			t.Errorf("%s: a peer without one has the password %q", step.name, got)
		}
	}
}

// The selectors of BGPPeers and of announce.bgp are looked at when they change, and
// when the labels do that they select by.
func TestWhoTellsWhatFollowsSelectorsAndLabels(t *testing.T) {
	st := newStage("n1")
	rackA, web := map[string]string{"rack": "a"}, map[string]string{"app": "web"}
	p := router("r")
	p.Spec.NodeSelector = selecting(rackA)
	pool := poolWith("lan", nil)
	pool.Spec.Announce = &v1alpha1.Announce{BGP: []v1alpha1.BGPAnnouncement{{}, {NodeSelector: &selecting(rackA).LabelSelector}, {ServiceSelector: &selecting(web).LabelSelector}}}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	svc := lb("ns", "a")
	check := func(when string, peers []string, tells, told []int) {
		t.Helper()
		s := st.look()
		if got := s.Nodes[0].Peers; !slices.Equal(got, peers) {
			t.Errorf("%s: the node has the peers %v, want %v", when, got, peers)
		}
		if diff := cmp.Diff(tells, s.Nodes[0].Tells["lan"]); diff != "" {
			t.Errorf("%s: the node tells (-want +got):\n%s", when, diff)
		}
		if diff := cmp.Diff(told, only(t, s).Told["lan"]); diff != "" {
			t.Errorf("%s: the Service is told by (-want +got):\n%s", when, diff)
		}
	}
	st.pool(pool)
	st.peer(p, false)
	st.node(n)
	st.service(svc)
	check("nothing has labels", nil, []int{0, 2}, []int{0, 1})

	n = n.DeepCopy()
	n.Labels = rackA
	st.node(n)
	svc = svc.DeepCopy()
	svc.Labels = web
	st.service(svc)
	check("all have", []string{"r"}, []int{0, 1, 2}, []int{0, 1, 2})

	p = p.DeepCopy()
	p.Spec.NodeSelector = selecting(map[string]string{"rack": "b"})
	st.peer(p, false)
	pool = pool.DeepCopy()
	pool.Spec.Announce.BGP = pool.Spec.Announce.BGP[:1]
	st.pool(pool)
	check("they select others", nil, []int{0}, []int{0})

	st.peer(p, true)
	pool = pool.DeepCopy()
	pool.Spec.Announce = nil
	st.pool(pool)
	check("there are none", nil, nil, nil)
}

// A BGPPeer that cannot be read stays as it was; the others are used.
func TestOneBadPeerLeavesTheOthers(t *testing.T) {
	st := newStage("n1")
	bad := router("bad")
	st.peer(bad, false)
	st.peer(router("good"), false)
	before := st.look()
	bad = bad.DeepCopy()
	bad.Spec.Address = "nowhere"
	st.peer(bad, false)
	after := st.look()
	if diff := cmp.Diff(before.Config.Peers, after.Config.Peers, cmp.Comparer(func(a, b interface{ IsValid() bool }) bool { return a == b })); diff != "" {
		t.Errorf("the peers are (-want +got):\n%s", diff)
	}
	if p := after.PeerProblems; len(p) != 1 || p[0].Object != "bad" || p[0].Field != "spec.address" {
		t.Errorf("problems %+v, want one with spec.address of bad", p)
	}
}
