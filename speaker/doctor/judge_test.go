package doctor

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/herald-lb/herald/internal/snapshot"
)

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// fit is a node on which all is well, in a cluster with one Service.
func fit() Facts {
	return Facts{
		Schedulers: map[string]string{"rr": "", "mh": "", "lc": ""},
		Tunnels:    map[string]string{"IPv4": "", "IPv6": ""},
		Machine:    "x86_64",
		Settings:   map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"},
		Links:      []Link{{"eth0", 1500, 0, prefixes("192.0.2.11/24", "2001:db8::11/64")}},
		KubeProxy:  KubeProxy{true, "nftables"},
		Addrs:      []Addr{{netip.MustParseAddr("192.0.2.11"), "eth0"}},
		Cluster: Cluster{
			Services: []snapshot.Service{{Key: "ns/a", Served: true, Ours: true, Ingress: []snapshot.Ingress{{Addr: netip.MustParseAddr("192.0.2.240"), Mode: "Proxy"}}}},
			Nodes:    map[string]string{"n1": "amd64", "n2": "arm64"},
		},
		Reached: []Reach{
			{"n2", netip.MustParseAddr("192.0.2.12"), true, true}, {"n2", netip.MustParseAddr("2001:db8::12"), true, true},
		},
	}
}

func TestAFitNodeHasNothingToComplainOf(t *testing.T) {
	for _, f := range Judge(fit()) {
		if f.Level != OK || f.Remedy != "" || f.What == "" || f.Means == "" {
			t.Errorf("finding %s", f)
		}
	}
}

func TestJudge(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.240")
	tests := []struct {
		name string
		edit func(*Facts)
		want []string // beginnings of all lines that are neither OK nor expected of a fit node
	}{
		{"no IPVS", func(f *Facts) { f.NoIPVS = "this kernel has no IPVS" }, []string{"WARN IPVS: this kernel has no IPVS; until then this node steers with nftables"}},
		{"neither IPVS nor nftables", func(f *Facts) { f.NoIPVS, f.NoNFT = "this kernel has no IPVS", "no nf_tables" },
			[]string{"FAIL IPVS: this kernel has no IPVS", "FAIL nftables: no nf_tables"}},
		{"IPVS without nftables", func(f *Facts) { f.NoNFT = "no nft_numgen" }, []string{"WARN nftables: no nft_numgen; beside IPVS"}},
		{"no rr", func(f *Facts) { f.Schedulers["rr"] = "there is none of that name" },
			[]string{"FAIL IPVS scheduler rr: Herald uses it for most Services, and the kernel does not make a server with it (there is none of that name); load the module ip_vs_rr"}},
		{"no mh", func(f *Facts) { f.Schedulers["mh"] = "there is none of that name" }, []string{"FAIL IPVS scheduler mh: "}},
		{"no tunnels", func(f *Facts) { f.Tunnels["IPv6"] = "this kernel has no ip6tnl links" },
			[]string{"WARN tunnels for IPv6: this kernel has no ip6tnl links: Services with an endpoint here"}},
		{"a network that drops tunnels", func(f *Facts) { f.Reached[0].ByTunnel = false },
			[]string{"FAIL tunnels to other nodes, IPv4: n2: a ping is answered, a packet through a tunnel is not: on the way there protocol 4 is dropped"}},
		{"a network that drops tunnels of IPv6", func(f *Facts) { f.Reached[1].ByTunnel = false },
			[]string{"FAIL tunnels to other nodes, IPv6: n2: a ping is answered, a packet through a tunnel is not: on the way there protocol 41 is dropped"}},
		{"a node that is gone", func(f *Facts) { f.Reached[0] = Reach{Node: "n2", Addr: f.Reached[0].Addr} },
			[]string{"WARN tunnels to other nodes, IPv4: n2: neither a ping nor"}},
		{"many nodes behind such a network", func(f *Facts) {
			f.Reached = nil
			for _, n := range []string{"n2", "n3", "n4", "n5", "n6", "n7", "n8"} {
				f.Reached = append(f.Reached, Reach{n, netip.MustParseAddr("192.0.2.12"), false, true})
			}
		}, []string{"FAIL tunnels to other nodes, IPv4: n2 n3 n4 n5 n6 and 2 more: a ping"}},
		{"no forwarding", func(f *Facts) { f.Settings["net/ipv4/ip_forward"] = "0" }, []string{"FAIL forwarding of IPv4: net.ipv4.ip_forward is 0"}},
		{"no forwarding of IPv6", func(f *Facts) { f.Settings["net/ipv6/conf/all/forwarding"] = "0" }, []string{"WARN forwarding of IPv6: net.ipv6.conf.all.forwarding is 0"}},
		{"no IPv6", func(f *Facts) { delete(f.Settings, "net/ipv6/conf/all/forwarding") }, nil},
		{"settings that cannot be read", func(f *Facts) { f.Settings = nil }, []string{"SKIP forwarding of IPv4: "}},
		{"no link", func(f *Facts) { f.Links = nil }, []string{"FAIL links: none is up"}},
		{"a strict filter on the only link", func(f *Facts) { f.Links[0].RPFilter = 1 }, nil},
		{"a strict filter on one of several", func(f *Facts) { f.Links = append(f.Links, Link{"eth1", 1500, 1, prefixes("198.51.100.1/24")}) },
			[]string{"WARN reverse path filtering: it is strict on eth1: "}},
		{"loose filters", func(f *Facts) { f.Links = append(f.Links, Link{"eth1", 1500, 2, prefixes("198.51.100.1/24")}) }, nil},
		{"no room for IPv6 in a tunnel", func(f *Facts) { f.Links[0].MTU = 1300 }, []string{"WARN MTU of eth0: it is 1300, of which a tunnel leaves less than the 1280"}},
		{"room enough for IPv4", func(f *Facts) { f.Links[0] = Link{"eth0", 1300, 0, prefixes("192.0.2.11/24")} }, nil},
		{"without kube-proxy", func(f *Facts) { f.KubeProxy = KubeProxy{} }, nil},
		{"a kube-proxy that does not say its mode", func(f *Facts) { f.KubeProxy.Mode = "" }, nil},
		{"a link of that name", func(f *Facts) { f.Taken = []string{"link herald0 is a dummy"} },
			[]string{"FAIL names and numbers of Herald: link herald0 is a dummy, and that is not Herald's"}},
		{"a rule that looks at our mark", func(f *Facts) { f.Shared = []string{"routing rule 100 of IPv4 looks at mark 0x1000/0x1000"} },
			[]string{"WARN names and numbers of Herald: routing rule 100"}},
		{"an address that is bound", func(f *Facts) { f.Addrs = append(f.Addrs, Addr{vip, "eth0"}) },
			[]string{"FAIL owners of addresses: 192.0.2.240 of ns/a is bound on eth0"}},
		{"an address that another routes", func(f *Facts) { f.Routes = []Route{{vip, "dev cilium_host proto 3"}} },
			[]string{"FAIL owners of addresses: a route of somebody else leads 192.0.2.240 of ns/a past Herald: dev cilium_host proto 3"}},
		{"an address that kube-proxy has to bind", func(f *Facts) {
			f.Addrs = append(f.Addrs, Addr{vip, "kube-ipvs0"})
			f.Cluster.Services[0].Ingress[0].Mode = "VIP"
		}, nil},
		{"an address that is not Herald's", func(f *Facts) {
			f.Addrs = append(f.Addrs, Addr{vip, "eth0"})
			f.Cluster.Services[0].Ours = false
		}, nil},
		{"no API", func(f *Facts) { f.Cluster = Cluster{Unread: "no API"} }, []string{"SKIP owners of addresses: no API", "SKIP kernels of the nodes: no API"}},
		{"a 32-bit kernel", func(f *Facts) { f.Machine = "armv7l" }, []string{"WARN kernel: it is one of 32 bits (armv7l)"}},
		{"nodes of both widths", func(f *Facts) { f.Cluster.Nodes["n3"] = "arm" }, []string{"WARN kernels of the nodes: n3 have 32 bits"}},
		{"32-bit nodes only", func(f *Facts) { f.Cluster.Nodes = map[string]string{"n1": "arm", "n2": "386"} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := fit()
			tt.edit(&f)
			var got []string
			for _, finding := range Judge(f) {
				if finding.Level != OK {
					got = append(got, finding.String())
				}
				if finding.Level == Warn || finding.Level == Fail {
					if finding.Remedy == "" {
						t.Errorf("no remedy: %s", finding)
					}
				}
			}
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("findings %q\nwant     %q", got, tt.want)
			}
		})
	}
}

// One line per finding, whatever the facts, and none about IPVS where there is
// none.
func TestFindingsAreLines(t *testing.T) {
	none := Facts{NoIPVS: "this kernel has no IPVS"}
	for _, f := range Judge(none) {
		if line := f.String(); strings.Contains(line, "\n") || strings.Contains(line, "scheduler") || strings.Contains(line, "tunnel") {
			t.Errorf("finding %q", line)
		}
	}
}

func TestWide(t *testing.T) {
	for machine, want := range map[string]bool{
		"x86_64": true, "aarch64": true, "riscv64": true, "ppc64le": true, "s390x": true, "loongarch64": true, "amd64": true, "arm64": true, "loong64": true, "mips64le": true,
		"i686": false, "armv7l": false, "armv6l": false, "mips": false, "ppc": false, "s390": false, "arm": false, "386": false,
	} {
		if got := wide(machine); got != want {
			t.Errorf("wide(%q) = %v, want %v", machine, got, want)
		}
	}
}

func TestALackingSchedulerOfSomebodysChoiceIsSaidOnly(t *testing.T) {
	f := fit()
	f.Schedulers = maps.Clone(f.Schedulers)
	f.Schedulers["fo"] = "there is none of that name"
	lines := []string{}
	for _, finding := range Judge(f) {
		if finding.What == "IPVS schedulers" {
			lines = append(lines, finding.String())
		}
	}
	want := []string{"OK   IPVS schedulers: the kernel has lc mh rr", "OK   IPVS schedulers: the kernel lacks fo; a pool or Service that names one of them is not steered here until its module is loaded"}
	if !slices.Equal(lines, want) {
		t.Errorf("findings %q\nwant     %q", lines, want)
	}
}
