package bgp

import (
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/herald-lb/herald/speaker"
)

// peerOf is GoBGP's config for a session with a peer that connects from addr.
func peerOf(w speaker.Session, addr netip.Addr) *api.Peer {
	p := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: addr.String(), PeerAsn: w.PeerASN},
		Transport: &api.Transport{PassiveMode: true},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: uint64(innerHold(w)), KeepaliveInterval: uint64(w.Keepalive.Seconds())}},
	}
	if w.PeerASN == 0 && w.Relation == speaker.Internal {
		p.Conf.PeerAsn = w.LocalASN
	}
	for _, f := range families(w) {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: apiFamily(f), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: w.GracefulRestart > 0}},
		})
	}
	if w.GracefulRestart > 0 {
		p.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(w.GracefulRestart.Seconds())}
	}
	return p
}

func families(w speaker.Session) []family {
	var all []family
	if w.V4 {
		all = append(all, ipv4)
	}
	if w.V6 {
		all = append(all, ipv6)
	}
	return all
}

func apiFamily(f family) *api.Family {
	return &api.Family{Afi: api.Family_Afi(f), Safi: api.Family_SAFI_UNICAST}
}

// pathOf is a change as GoBGP takes it.
func pathOf(c change) (*api.Path, error) {
	f, s := familyOf(c.prefix.Addr()), c.saying
	nlri := &api.IPAddressPrefix{Prefix: c.prefix.Addr().String(), PrefixLen: uint32(c.prefix.Bits())}
	attributes := []proto.Message{&api.OriginAttribute{}, &api.NextHopAttribute{NextHop: s.hop.String()}} // origin IGP
	if s.med >= 0 {
		attributes = append(attributes, &api.MultiExitDiscAttribute{Med: uint32(s.med)})
	}
	if s.localPref >= 0 {
		attributes = append(attributes, &api.LocalPrefAttribute{LocalPref: uint32(s.localPref)})
	}
	if s.communities != "" {
		attributes = append(attributes, &api.CommunitiesAttribute{Communities: unpack(s.communities)})
	}
	if large := unpack(s.large); len(large) > 0 {
		a := &api.LargeCommunitiesAttribute{}
		for ; len(large) >= 3; large = large[3:] {
			a.Communities = append(a.Communities, &api.LargeCommunity{GlobalAdmin: large[0], LocalData1: large[1], LocalData2: large[2]})
		}
		attributes = append(attributes, a)
	}
	p := &api.Path{Family: apiFamily(f), IsWithdraw: c.gone}
	var err error
	if p.Nlri, err = anypb.New(nlri); err != nil {
		return nil, err
	}
	for _, a := range attributes {
		packed, err := anypb.New(a)
		if err != nil {
			return nil, err
		}
		p.Pattrs = append(p.Pattrs, packed)
	}
	return p, nil
}
