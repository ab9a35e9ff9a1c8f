package ipam

import "testing"

func claim(name string, edits ...func(*Request)) Request {
	r := request(ClaimOwner("x", name), edits...)
	r.Kind, r.Namespace = Claim, "x"
	return r
}

// user is an owner of namespace x.
func user(name string, edits ...func(*Request)) Request {
	r := request("x/"+name, edits...)
	r.Namespace = "x"
	return r
}

func claims(name string) func(*Request) { return func(r *Request) { r.Claim = name } }

func TestClaims(t *testing.T) {
	lan, six := pool("lan", "192.0.2.1-192.0.2.4"), pool("six", "2001:db8::1-2001:db8::3")
	stranger := func(name string, edits ...func(*Request)) Request {
		r := request("y/"+name, edits...)
		r.Namespace = "y"
		return r
	}
	runPlans(t, []planTest{{
		"a claim comes before owners to whom any address will do, and its users after it",
		lanOf(lan, claim("c", age(9)), user("a", age(1)), user("b", age(2), claims("c"))),
		[]string{"claim x/c 192.0.2.1@lan", "x/a 192.0.2.2@lan", "x/b 192.0.2.1@lan"},
	}, {
		"a claim of an address comes after an older request for it by another namespace, before a younger one",
		lanOf(lan, claim("c", age(2), want("192.0.2.3")), claim("d", age(2), want("192.0.2.2")), stranger("a", age(1), want("192.0.2.3")), stranger("b", age(3), want("192.0.2.2"))),
		[]string{"claim x/c IPv4:AddressTaken", "claim x/d 192.0.2.2@lan", "y/a 192.0.2.3@lan", "y/b IPv4:AddressTaken"},
	}, {
		"a claim keeps its address when nobody uses it, from all but those of its namespace who ask for it",
		lanOf(lan, claim("c", held("192.0.2.1")), user("a"), user("b", want("192.0.2.1")), stranger("d", want("192.0.2.1"))),
		[]string{"claim x/c 192.0.2.1@lan", "x/a 192.0.2.2@lan", "x/b 192.0.2.1@lan", "y/d IPv4:AddressTaken"},
	}, {
		"a name is of a namespace",
		lanOf(lan, claim("c", held("192.0.2.1")), stranger("a", claims("c"))),
		[]string{"claim x/c 192.0.2.1@lan", "y/a IPv4:ClaimUnknown"},
	}, {
		"two users need a key, as anywhere",
		lanOf(lan, claim("c"), user("a", claims("c")), user("b", claims("c")), claim("d"), user("e", claims("d"), key("k", 80)), user("f", claims("d"), key("k", 81))),
		[]string{"claim x/c 192.0.2.1@lan", "claim x/d 192.0.2.2@lan", "x/a 192.0.2.1@lan", "x/b IPv4:AddressTaken", "x/e 192.0.2.2@lan", "x/f 192.0.2.2@lan"},
	}, {
		"an address that a claim keeps is not joined without asking",
		lanOf(lan, claim("c"), user("a", claims("c"), key("k", 80)), user("b", key("k", 81))),
		[]string{"claim x/c 192.0.2.1@lan", "x/a 192.0.2.1@lan", "x/b 192.0.2.2@lan"},
	}, {
		"a claim may be made of an address that a Service of its namespace has, not of another's",
		lanOf(lan, user("a", held("192.0.2.1")), claim("c", want("192.0.2.1")), stranger("b", held("192.0.2.2")), claim("d", want("192.0.2.2"))),
		[]string{"claim x/c 192.0.2.1@lan", "claim x/d IPv4:AddressTaken", "x/a 192.0.2.1@lan", "y/b 192.0.2.2@lan"},
	}, {
		"naming a claim moves its user there, and un-naming it leaves the user where it is",
		lanOf(lan, claim("c", held("192.0.2.4")), user("a", held("192.0.2.1"), claims("c")), claim("d", held("192.0.2.3")), user("b", held("192.0.2.3"))),
		[]string{"claim x/c 192.0.2.4@lan", "claim x/d 192.0.2.3@lan", "x/a 192.0.2.4@lan", "x/b 192.0.2.3@lan"},
	}, {
		"a claim that is gone, or has no address, takes nothing from its user",
		lanOf(lan, user("a", held("192.0.2.1"), claims("gone")), claim("c", pools()), user("b", held("192.0.2.2"), claims("c")), user("d", claims("c"))),
		[]string{"claim x/c IPv4:NotEligible", "x/a 192.0.2.1@lan IPv4:ClaimUnknown", "x/b 192.0.2.2@lan IPv4:ClaimEmpty", "x/d IPv4:ClaimEmpty"},
	}, {
		"what a user takes is of the claim alone",
		World{Pools: []Pool{lan, six}, Requests: []Request{claim("c"), user("a", dual, claims("c"), pools("lan", "six")), user("b", claims("c"), want("192.0.2.2"))}},
		[]string{"claim x/c 192.0.2.1@lan", "x/a 192.0.2.1@lan IPv6:ClaimEmpty", "x/b IPv4:NotInPool"},
	}, {
		"who requires both families takes both of a claim or none",
		World{Pools: []Pool{lan, six}, Requests: []Request{
			claim("c"), user("a", require, claims("c"), pools("lan", "six")), claim("d", dual, pools("lan", "six")), user("b", require, claims("d"), pools()),
		}},
		[]string{"claim x/c 192.0.2.1@lan", "claim x/d 192.0.2.2@lan 2001:db8::1@six", "x/a IPv6:ClaimEmpty", "x/b 192.0.2.2@lan 2001:db8::1@six"},
	}, {
		"a claim and an older Service of another namespace hold one address: the Service keeps it",
		lanOf(lan, claim("c", age(2), held("192.0.2.1")), stranger("a", age(1), held("192.0.2.1"))),
		[]string{"claim x/c 192.0.2.2@lan", "y/a 192.0.2.1@lan"},
	}, {
		"two claims never share",
		lanOf(lan, claim("c", key("k"), want("192.0.2.1")), claim("d", key("k"), want("192.0.2.1"))),
		[]string{"claim x/c 192.0.2.1@lan", "claim x/d IPv4:AddressTaken"},
	}, {
		"when a claim moves its users go with it",
		lanOf(lan, claim("c", held("192.0.2.1"), moving), user("a", held("192.0.2.1"), claims("c"))),
		[]string{"claim x/c 192.0.2.2@lan", "x/a 192.0.2.2@lan"},
	}})
}
