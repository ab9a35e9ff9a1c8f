package v1alpha1

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/herald-lb/herald/config"
)

func bgpPeer(name string, spec BGPPeerSpec) BGPPeer {
	return BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
}

// CompilePeers finds all that the schema refuses in an object, in the same field.
func TestCompilePeersKnowsWhatTheSchemaKnows(t *testing.T) {
	raw, err := os.ReadFile("testdata/admission-peers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		Name    string      `json:"name"`
		Spec    BGPPeerSpec `json:"spec"`
		Refused []string    `json:"refused"`
	}
	if err := yaml.UnmarshalStrict(raw, &tests); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.Name, func(t *testing.T) {
			peers, problems := CompilePeers([]BGPPeer{bgpPeer("p", tt.Spec)}, nil)
			if len(tt.Refused) == 0 {
				if len(problems) > 0 || len(peers) != 1 {
					t.Errorf("problems %v of a good peer", problems)
				}
				return
			}
			inField := func(p config.Problem) bool { return strings.HasPrefix(p.Field, tt.Refused[0]) }
			if !slices.ContainsFunc(problems, inField) || len(peers) > 0 {
				t.Errorf("problems %v, want one of %s; peers %v", problems, tt.Refused[0], peers)
			}
		})
	}
}

func TestCompilePeersFillsInWhatIsNotWritten(t *testing.T) {
	peers, problems := CompilePeers([]BGPPeer{bgpPeer("p", BGPPeerSpec{MyASN: 65000, PeerASN: 65001, LocalASN: 65010, Address: "192.0.2.1", BFD: &BFDSpec{},
		PasswordSecretRef: &SecretKeyReference{Name: "s"}})}, nil)
	want := []config.Peer{{
		Name: "p", LocalASN: 65010, PeerASN: 65001, Addr: netip.MustParseAddr("192.0.2.1"), Port: 179, Secret: "s", SecretKey: "password",
		HoldTime: 90 * time.Second, Keepalive: 30 * time.Second, ConnectRetry: 5 * time.Second,
		BFDInterval: 300 * time.Millisecond, BFDMultiplier: 3, V4: true, V6: true,
	}}
	if diff := cmp.Diff(want, peers, sameAddr); diff != "" || len(problems) > 0 {
		t.Errorf("problems %v, peers (-want +got):\n%s", problems, diff)
	}
}

// One bad object among several: the others are in use, and it as it was.
func TestABadPeerStaysAsItWas(t *testing.T) {
	good := BGPPeerSpec{MyASN: 65000, PeerASN: 65001, Address: "192.0.2.1"}
	bad := good
	bad.HoldTime = &metav1.Duration{Duration: time.Second}
	last, _ := CompilePeers([]BGPPeer{bgpPeer("a", good)}, nil)
	peers, problems := CompilePeers([]BGPPeer{bgpPeer("c", good), bgpPeer("b", bad), bgpPeer("a", bad)}, last)
	var got []string
	for _, p := range peers {
		got = append(got, fmt.Sprint(p.Name, " ", p.HoldTime))
	}
	if !slices.Equal(got, []string{"a 1m30s", "c 1m30s"}) || len(problems) != 2 || problems[0].Object != "a" || problems[1].Object != "b" {
		t.Errorf("peers %q, problems %v", got, problems)
	}
}

func TestCommunities(t *testing.T) {
	large := func(a, b, c uint32) *[3]uint32 { return &[3]uint32{a, b, c} }
	tests := []struct {
		text     Community
		standard uint32
		large    *[3]uint32
		ok       bool
	}{
		{"65000:100", 65000<<16 | 100, nil, true},
		{"0:0", 0, nil, true},
		{"65000:1:2", 0, large(65000, 1, 2), true},
		{"4294967295:0:4294967295", 0, large(1<<32-1, 0, 1<<32-1), true},
		{"no-export", 0xffffff01, nil, true},
		{"graceful-shutdown", 0xffff0000, nil, true},
		{"65536:0", 0, nil, false},
		{"4294967296:0:0", 0, nil, false},
		{"1", 0, nil, false},
		{"1:2:3:4", 0, nil, false},
		{"a:b", 0, nil, false},
		{"-1:2", 0, nil, false},
		{" 1:2", 0, nil, false},
		{"", 0, nil, false},
		{"NO_EXPORT", 0, nil, false},
	}
	for _, tt := range tests {
		standard, got, ok := readCommunity(tt.text)
		if ok != tt.ok || ok && (standard != tt.standard || !cmp.Equal(got, tt.large)) {
			t.Errorf("readCommunity(%q) = %#x, %v, %t", tt.text, standard, got, ok)
		}
	}
}
