package arp

// A promise is what one packet brings about on a link where 192.0.2.10 and
// 192.0.2.11 are claimed and 192.0.2.20 is claimed on another one. The same
// table is run against the fake and against the kernel.
type promise struct {
	name  string
	frame []byte
	reply string // "" for silence
	// conflict is whether the packet disputes a claim.
	conflict bool
}

// promises are made by a host with hardware address us to one with them.
func promises(us, them mac) []promise {
	other := mac{2, 0, 0, 0, 0, 0x77}
	multicast := mac{1, 0, 0x5e, 0, 0, 1}
	answer := func(addr, asker string) string {
		return text(wire(them, us, 2, us, addr, them, asker))
	}
	tagged := func(frame []byte) []byte { // 802.1Q, VLAN 7
		return append(append(append([]byte{}, frame[:12]...), 0x81, 0, 0, 7), frame[12:]...)
	}
	spoil := func(frame []byte, at int, b byte) []byte {
		frame[at] = b
		return frame
	}
	ask := func(to mac, sender string, target string) []byte {
		return wire(to, them, 1, them, sender, zero, target)
	}
	return []promise{
		{"a broadcast request is answered", ask(every, "192.0.2.1", "192.0.2.10"), answer("192.0.2.10", "192.0.2.1"), false},
		{"the second address too", ask(every, "192.0.2.1", "192.0.2.11"), answer("192.0.2.11", "192.0.2.1"), false},
		{"a unicast request is answered", ask(us, "192.0.2.1", "192.0.2.10"), answer("192.0.2.10", "192.0.2.1"), false},
		{"a probe is answered", ask(every, "0.0.0.0", "192.0.2.10"), answer("192.0.2.10", "0.0.0.0"), false},
		{"a unicast probe is answered", ask(us, "0.0.0.0", "192.0.2.10"), answer("192.0.2.10", "0.0.0.0"), false},
		{"a multicast request is answered", ask(multicast, "192.0.2.1", "192.0.2.10"), answer("192.0.2.10", "192.0.2.1"), false},
		{"a sender outside the subnet is answered", ask(every, "198.51.100.9", "192.0.2.10"), answer("192.0.2.10", "198.51.100.9"), false},
		{"a request for a free address is not answered", ask(every, "192.0.2.1", "192.0.2.12"), "", false},
		{"a request for an address of another link is not answered", ask(every, "192.0.2.1", "192.0.2.20"), "", false},
		{"a unicast request to another host is not answered", ask(other, "192.0.2.1", "192.0.2.10"), "", false},
		{"a reply is not answered", wire(us, them, 2, them, "192.0.2.1", us, "192.0.2.10"), "", false},
		{"a packet with a VLAN tag is not answered", tagged(ask(every, "192.0.2.1", "192.0.2.10")), "", false},
		{"reverse ARP is not answered", wire(every, them, 3, them, "192.0.2.1", zero, "192.0.2.10"), "", false},
		{"another hardware type is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 15, 6), "", false},
		{"another protocol is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 16, 0x86), "", false},
		{"another ether type is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 13, 0x35), "", false},
		{"longer hardware addresses are not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 18, 8), "", false},
		{"shorter hardware addresses are not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 18, 4), "", false},
		{"another length of addresses is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 19, 16), "", false},
		{"a packet that is cut off is not answered", ask(every, "192.0.2.1", "192.0.2.10")[:41], "", false},
		{"an asker with a broadcast address is not answered", wire(every, them, 1, every, "192.0.2.1", zero, "192.0.2.10"), "", false},
		{"an asker without a hardware address is not answered", wire(every, them, 1, zero, "192.0.2.1", zero, "192.0.2.10"), "", false},
		{"our own announcement coming back is not answered", wire(every, us, 1, us, "192.0.2.10", zero, "192.0.2.10"), "", false},
		{"an announcement of a free address is none of our business", wire(every, them, 2, them, "192.0.2.12", every, "192.0.2.12"), "", false},
		// The first conflict is defended by one announcement; the others
		// come within ten seconds of it.
		{"a foreign announcement is a conflict, and defended", wire(every, them, 1, them, "192.0.2.10", zero, "192.0.2.10"),
			text(wire(every, us, 1, us, "192.0.2.10", zero, "192.0.2.10")), true},
		{"a foreign gratuitous reply is a conflict", wire(every, them, 2, them, "192.0.2.10", every, "192.0.2.10"), "", true},
		{"a foreign reply to us is a conflict", wire(us, them, 2, them, "192.0.2.10", us, "192.0.2.1"), "", true},
		{"a request that bears our address is a conflict", ask(every, "192.0.2.10", "192.0.2.1"), "", true},
		{"and is not answered", ask(every, "192.0.2.10", "192.0.2.11"), "", true},
	}
}
