package metallb

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// herald is Herald's namespace in tests.
const herald = "herald-system"

// one returns a random one of values.
func one[T any](rnd *rand.Rand, values ...T) T { return values[rnd.IntN(len(values))] }

// randomPeer returns a BGPPeer that MetalLB takes.
func randomPeer(rnd *rand.Rand) bgpPeerSpec {
	s := bgpPeerSpec{
		MyASN: one[uint32](rnd, 1, 64512, 4294967295), LocalASN: one[uint32](rnd, 0, 64514), PeerPort: one[uint16](rnd, 0, 179, 1179),
		HoldTime: one(rnd, "", "0s", "3s", "90s", "1m30s", "90.7s", "18h12m15s"), ConnectTime: one(rnd, "", "1s", "65535s"),
		RouterID: one(rnd, "", "192.0.2.9"), NodeSelectors: randomSelectors(rnd), Password: one(rnd, "", "swordfish"),
		BFDProfile: one(rnd, "", "fast", "slow"), EnableGracefulRestart: rnd.IntN(2) == 0,
		DisableMP: rnd.IntN(2) == 0, DualStackAddressFamily: rnd.IntN(2) == 0,
	}
	if hold, err := time.ParseDuration(s.HoldTime); err != nil {
		s.KeepaliveTime = one(rnd, "", "1s", "30s", "21845s")
	} else {
		s.KeepaliveTime = one(rnd, "", "0s", (hold / 3).String(), hold.String(), (hold / 2).String())
	}
	switch rnd.IntN(3) {
	case 0:
		s.Interface = "eth1"
	case 1:
		s.PeerAddress, s.SourceAddress = "192.0.2.1", one(rnd, "", "::ffff:192.0.2.2")
	default:
		s.PeerAddress, s.SourceAddress = "2001:DB8::1", one(rnd, "", "2001:db8:0::2")
	}
	if s.DynamicASN = one(rnd, "", "internal", "external"); s.DynamicASN == "" {
		s.PeerASN, s.EBGPMultiHop = 64513, rnd.IntN(2) == 0
	}
	return s
}

// apiTime is how the schema wants times to be written.
var apiTime = regexp.MustCompile(`^([0-9]{1,6}([.][0-9]{1,3})?(ms|[hms]))+$`)

// What MetalLB takes, Herald takes, and it says the same.
func TestPeersThatAreValidComeOutValid(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	fast, slow, few := uint32(10), uint32(1500), uint32(2)
	profiles := []profile{{name: "fast", spec: bfdProfileSpec{ReceiveInterval: &fast, TransmitInterval: &fast, DetectMultiplier: &few}},
		{name: "slow", spec: bfdProfileSpec{ReceiveInterval: &slow}}}
	for range 2000 {
		p := peer{spec: randomPeer(rnd), old: rnd.IntN(2) == 0, meta: metav1.ObjectMeta{Name: "p"}}
		in := &input{namespace: herald, profiles: profiles}
		out := in.translatePeer(p)
		text, err := yaml.Marshal(out.Object)
		if err != nil {
			t.Fatal(err)
		}
		var o v1alpha1.BGPPeer
		if err := yaml.UnmarshalStrict(text, &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		peers, problems := v1alpha1.CompilePeers([]v1alpha1.BGPPeer{o}, nil)
		if len(problems) > 0 {
			t.Fatalf("%v\nof %+v\n%s", problems, p.spec, text)
		}
		for _, key := range []string{"holdTime", "keepaliveTime", "connectRetry", "gracefulRestart", "interval"} {
			_, rest, ok := strings.Cut(string(text), key+": ")
			if value, _, _ := strings.Cut(rest, "\n"); ok && !apiTime.MatchString(value) {
				t.Errorf("%s: %s is not as the schema wants it", key, value)
			}
		}
		got, s := peers[0], p.spec
		if got.PeerASN != s.PeerASN || got.Internal != (s.DynamicASN == "internal") || got.External != (s.DynamicASN == "external") ||
			got.Multihop != s.EBGPMultiHop || (got.GracefulRestart == 2*time.Minute) != s.EnableGracefulRestart || (got.Secret == "") != (s.Password == "") ||
			(got.BFDInterval > 0) != (s.BFDProfile != "") || got.Addr.Is6() && !got.V6 || got.Addr.Is4() && !got.V4 {
			t.Fatalf("%+v\nbecame %+v", s, got)
		}
	}
}

func TestTimes(t *testing.T) {
	tests := []struct {
		name, hold, keepalive string
		old                   bool
		want                  string // hold and keepalive time as they are written
	}{
		{"none", "", "", false, "- -"},
		{"both", "90s", "30s", false, "1m30s 30s"},
		{"a hold time alone has a third for keepalives", "90s", "", false, "1m30s -"},
		{"a keepalive time alone is a third of the hold time", "", "10s", false, "30s 10s"},
		{"parts of seconds are dropped", "10.9s", "3500ms", false, "10s 3s"},
		{"a hold time of none", "0s", "0s", false, "0s -"},
		{"of a hold time of none nothing follows", "0s", "30s", false, "0s -"},
		{"what was none given before there were pointers", "0s", "0s", true, "- -"},
		{"what MetalLB's own converter writes", "1m30s", "0s", false, "1m30s -"},
		{"keepalives that come too late", "9s", "9s", false, "9s -"},
		{"keepalives that come as often as can be said", "65535s", "30000s", false, "18h12m15s -"},
		{"no times", "soon", "later", false, "- -"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &input{}
			var s v1alpha1.BGPPeerSpec
			in.times(peer{spec: bgpPeerSpec{HoldTime: tt.hold, KeepaliveTime: tt.keepalive}, old: tt.old}, &s)
			hold, keepalive := "-", "-"
			if s.HoldTime != nil {
				hold = s.HoldTime.Duration.String()
			}
			if s.KeepaliveTime.Duration != 0 {
				keepalive = s.KeepaliveTime.Duration.String()
			}
			if got := hold + " " + keepalive; got != tt.want {
				t.Errorf("times are %s, want %s; %v", got, tt.want, in.list)
			}
			for field, text := range map[string]string{holdTime: tt.hold, keepaliveTime: tt.keepalive} {
				if text != "" && !noted(in.list, "", field) {
					t.Errorf("nothing is said of %s: %v", field, in.list)
				}
			}
		})
	}
}

func TestFamilies(t *testing.T) {
	four, six := []v1alpha1.Family{v1alpha1.FamilyIPv4}, []v1alpha1.Family{v1alpha1.FamilyIPv6}
	tests := []struct {
		name string
		spec bgpPeerSpec
		want []v1alpha1.Family
	}{
		{"over IPv4", bgpPeerSpec{PeerAddress: "192.0.2.1"}, four},
		{"over IPv6", bgpPeerSpec{PeerAddress: "2001:db8::1"}, six},
		{"over IPv4, by the older flag", bgpPeerSpec{PeerAddress: "::ffff:192.0.2.1", DisableMP: true}, four},
		{"both", bgpPeerSpec{PeerAddress: "192.0.2.1", DualStackAddressFamily: true, DisableMP: true}, nil},
		{"unnumbered", bgpPeerSpec{Interface: "eth1"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &input{}
			if got := in.translatePeer(peer{spec: tt.spec}).Object.Spec.Families; !cmp.Equal(got, tt.want) {
				t.Errorf("families are %v, want %v", got, tt.want)
			}
		})
	}
}

// A pool with addresses of a family that no router takes says so.
func TestAFamilyThatNobodyIsToldIsNoted(t *testing.T) {
	const text = `{"apiVersion":"metallb.io/v1beta1","kind":"IPAddressPool","metadata":{"name":"p"},"spec":{"addresses":["192.0.2.0/24","2001:db8::/64"]}}
{"apiVersion":"metallb.io/v1beta1","kind":"BGPAdvertisement","metadata":{"name":"a"}}
{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"name":"r"},"spec":{"myASN":1,"peerASN":2,"peerAddress":"192.0.2.1"%s}}`
	for extra, want := range map[string]bool{"": true, `,"dualStackAddressFamily":true`: false} {
		r, err := Migrate([]File{{"f", fmt.Appendf(nil, text, extra)}}, herald)
		if err != nil {
			t.Fatal(err)
		}
		said := false
		for _, n := range r.Notes {
			said = said || strings.Contains(n.Text, "no BGPPeer takes its IPv6 addresses")
		}
		if said != want {
			t.Errorf("with %q it is said: %t, want %t: %v", extra, said, want, r.Notes)
		}
	}
}

// A password goes where passwords are, and nowhere else.
func TestAPasswordBecomesASecret(t *testing.T) {
	const doc = `{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"name":"r","namespace":"metallb-system"},
		"spec":{"myASN":1,"peerASN":2,"peerAddress":"192.0.2.1","password":"swordfish"%s}}`
	r, err := Migrate([]File{{"f", fmt.Appendf(nil, doc, "")}}, "elsewhere")
	if err != nil || len(r.Peers) != 1 || r.Peers[0].Secret == nil {
		t.Fatal(r, err)
	}
	ref, secret := r.Peers[0].Object.Spec.PasswordSecretRef, r.Peers[0].Secret
	if ref.Name != secret.Name || secret.Namespace != "elsewhere" || string(secret.Data["password"]) != "swordfish" {
		t.Errorf("passwordSecretRef is %v, the Secret %v", ref, secret)
	}
	stream, err := r.YAML(None)
	encoded := base64.StdEncoding.EncodeToString([]byte("swordfish"))
	if err != nil || bytes.Contains(stream, []byte("swordfish")) || !bytes.Contains(stream, []byte("password: "+encoded+"\n")) {
		t.Errorf("%v\n%s", err, stream)
	}
	if said := fmt.Sprint(r.Notes); strings.Contains(said, "swordfish") || strings.Contains(said, encoded) {
		t.Errorf("a note shows the password: %s", said)
	}
	r, err = Migrate([]File{{"f", fmt.Appendf(nil, doc, `,"passwordSecret":{"name":"s"}`)}}, herald)
	if err != nil || r.Peers[0].Secret != nil || r.Peers[0].Object.Spec.PasswordSecretRef.Name != "s" || !noted(r.Notes, "BGPPeer metallb-system/r", "spec.password") {
		t.Errorf("with a Secret, too: %+v, %v", r, err)
	}
}

func TestPeersOfOneNameAreOne(t *testing.T) {
	const doc = `{"apiVersion":"metallb.io/v1beta2","kind":"BGPPeer","metadata":{"name":"r","namespace":%q},"spec":{"myASN":1,"peerASN":2,"peerAddress":"192.0.2.1"}}`
	r, err := Migrate([]File{{"f", fmt.Appendf(nil, doc+"\n"+doc, "b", "a")}}, herald)
	if err != nil || len(r.Peers) != 1 || r.Peers[0].From != "BGPPeer a/r" || r.Lost() != 1 {
		t.Errorf("Migrate() = %+v, %v", r, err)
	}
}
