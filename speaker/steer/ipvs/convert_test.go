package ipvs

import (
	"net/netip"
	"testing"

	moby "github.com/moby/ipvs"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// listed is svc as the kernel lists it.
func listed(svc *moby.Service) *moby.Service {
	svc.Flags |= flagHashed
	return svc
}

func TestServiceReadsBack(t *testing.T) {
	for _, v := range []steer.Virtual{
		virtual("192.0.2.1:80", snapshot.TCP), virtual("192.0.2.1:53", snapshot.UDP),
		virtual("[2001:db8::1]:80", snapshot.SCTP),
		virtual("0.0.0.0:30080", snapshot.TCP), virtual("[::]:30080", snapshot.TCP),
		{Addr: netip.MustParseAddrPort("192.0.2.1:80"), Proto: snapshot.TCP, Tier: steer.Front},
		{Addr: netip.MustParseAddrPort("[2001:db8::1]:80"), Proto: snapshot.TCP, Tier: steer.Back},
	} {
		for _, want := range []steer.Server{
			{Scheduler: "rr"}, {Scheduler: "wrr"}, {Scheduler: "mh"},
			{Scheduler: "mh", Flags: config.SchedulerPort}, {Scheduler: "sh", Flags: config.SchedulerPort | config.SchedulerFallback},
			{Scheduler: "rr", Affinity: 10800}, {Scheduler: "mh", Flags: config.SchedulerFallback, Affinity: 1},
		} {
			got, server, err := parseService(v.Tier, listed(service(v, want)))
			if err != nil || got != v || server != want {
				t.Errorf("%s %s reads back as %s %v, %v", v, want, got, server, err)
			}
		}
	}
}

func TestAServiceOfAnotherMakeIsSeen(t *testing.T) {
	v, s := virtual("192.0.2.1:80", snapshot.TCP), steer.Server{Scheduler: "mh", Flags: config.SchedulerPort | config.SchedulerFallback}
	tests := []struct {
		name string
		edit func(*moby.Service)
	}{
		{"without the flags of mh", func(svc *moby.Service) { svc.Flags = 0 }},
		{"with one of two flags", func(svc *moby.Service) { svc.Flags = flagPort }},
		{"with a flag that nobody uses", func(svc *moby.Service) { svc.Flags |= 0x20 }},
		{"persistent", func(svc *moby.Service) { svc.Flags |= 1; svc.Timeout = 360 }},
		{"with all clients in one group", func(svc *moby.Service) { svc.Netmask = 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := service(v, s)
			tt.edit(svc)
			_, got, err := parseService(steer.Single, listed(svc))
			if err != nil || got == s {
				t.Errorf("parseService() = %v, %v, want one that differs from %v", got, err, s)
			}
		})
	}
}

func TestNetmaskIsThatOfTheFamily(t *testing.T) {
	for addr, want := range map[string]uint32{"192.0.2.1:80": 0xffffffff, "[2001:db8::1]:80": 128} {
		if got := service(virtual(addr, snapshot.TCP), steer.Server{}).Netmask; got != want {
			t.Errorf("netmask of %s = %#x, want %#x", addr, got, want)
		}
	}
}

func TestDestinationReadsBack(t *testing.T) {
	for _, addr := range []string{"10.0.0.7:8080", "[fd00::7]:8080"} {
		for _, weight := range []int{0, 1, 65535} {
			real, tier := netip.MustParseAddrPort(addr), steer.Tier(weight%3)
			got, w, err := parseDestination(tier, destinationOf(steer.Virtual{Tier: tier}, real, weight))
			if err != nil || got != real || w != weight {
				t.Errorf("%s weight %d reads back as %s weight %d, %v", addr, weight, got, w, err)
			}
		}
	}
}

func TestADestinationThatIsForwardedOtherwiseIsSeen(t *testing.T) {
	real := netip.MustParseAddrPort("10.0.0.7:8080")
	for tier, right := range map[steer.Tier]uint32{
		steer.Single: moby.ConnectionFlagMasq, steer.Front: moby.ConnectionFlagTunnel, steer.Back: moby.ConnectionFlagMasq,
	} {
		for _, forward := range []uint32{moby.ConnectionFlagMasq, moby.ConnectionFlagTunnel, moby.ConnectionFlagDirectRoute} {
			d := destinationOf(steer.Virtual{Tier: tier}, real, 1)
			d.ConnectionFlags = forward
			if _, weight, err := parseDestination(tier, d); err != nil || (weight == 1) != (forward == right) {
				t.Errorf("tier %q: forwarding %#x reads as weight %d, %v", tier, forward, weight, err)
			}
		}
	}
}

func TestWhatIsNoAddressIsAnError(t *testing.T) {
	if _, _, err := parseService(steer.Single, &moby.Service{Address: []byte{1, 2, 3}}); err == nil {
		t.Error("parseService() of three bytes succeeds")
	}
	if _, _, err := parseDestination(steer.Single, &moby.Destination{}); err == nil {
		t.Error("parseDestination() of no address succeeds")
	}
}
