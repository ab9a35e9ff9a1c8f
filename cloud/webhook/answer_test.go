package webhook

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

var seeds = []string{"", "null", "{}", "[]", fine, mine, theirs, nothing, `{"items":[` + mine + `],"next":"2"}`,
	`{"code":"busy","message":"m","retryAfterSeconds":3}`,
	`{"id":"ad-1","state":"ready","family":"IPv6","address":"2001:db8::1","deliveredAddress":"2001:db8::2","assignedTo":"i"}`,
	`{"id":"lb-1","state":"pending","addresses":null,"created":"2026-11-26T00:00:00Z","costPerMonth":{"milli":5390,"currency":"EUR"},"spec":{"listeners":null}}`}

func seed(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
}

func FuzzParseServer(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if s, err := parseServer(body); err == nil && (s.Version != version || s.Capabilities.in().Delivery == "") {
			t.Errorf("%s is %+v", body, s)
		}
	})
}

func FuzzParseLB(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		lb, err := parseLB(body)
		if err != nil {
			return
		}
		found := lb.found() // must not panic on what was checked
		for i, a := range found.Addrs {
			checkAddr(t, a)
			if i > 0 && a.Is4() && !found.Addrs[i-1].Is4() {
				t.Errorf("%v: IPv4 is not first", found.Addrs)
			}
		}
		if lb.Spec != nil && !equal(*lb.Spec, *lb.Spec) {
			t.Errorf("%s does not equal itself", body)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAddress(body)
		if err != nil {
			return
		}
		f := a.routed()
		for _, addr := range f.Addrs {
			if checkAddr(t, addr); f.Prefix.Addr() != addr {
				t.Errorf("address %s of %s", addr, f.Prefix)
			}
		}
	})
}

func checkAddr(t *testing.T, a netip.Addr) {
	t.Helper()
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() {
		t.Errorf("%v is accepted", a)
	}
}

func FuzzParseList(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		lbs, _, err := parseList[loadBalancer](body)
		for _, lb := range lbs {
			lb.found()
			lb.place()
		}
		if err != nil && lbs != nil {
			t.Errorf("%s is an error, and a part of a list", body)
		}
		addrs, _, _ := parseList[address](body)
		for _, a := range addrs {
			a.found()
			a.place()
		}
	})
}

func FuzzParseFailure(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		e := refusal(request{Method: "GET", Path: "/v1"}, reply{status: 500, body: body}, "token")
		if e.Text == "" || len([]rune(e.Text)) > 500 || strings.ContainsAny(e.Text, "\n\r\x00\x1b") || e.After < 0 {
			t.Errorf("%s is %q", body, e.Text)
		}
	})
}

func TestCheckIP(t *testing.T) {
	for _, text := range []string{"192.0.2.1", "2001:db8::1", "10.0.0.1", "fd00::1"} {
		if err := checkIP(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "x", "192.0.2.01", "192.0.2.1/32", " 192.0.2.1", "2001:DB8::1", "2001:db8:0:0::1", "fe80::1%eth0", "::ffff:192.0.2.1", "0.0.0.0", "::", "127.0.0.1", "224.0.0.1", "ff02::1"} {
		if checkIP(text) == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// Whoever writes a server finds every field explained.
func TestOpenAPIDescribesEveryField(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.0.") || doc.Info.Version != version {
		t.Errorf("OpenAPI %s, version %s", doc.OpenAPI, doc.Info.Version)
	}
	for name, schema := range doc.Components.Schemas {
		for field, s := range schema.Value.Properties {
			// A reference is explained by its name, and where it leads.
			if s.Ref == "" && s.Value.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
			if strings.HasSuffix(field, "Seconds") && s.Ref == "" && !strings.Contains(strings.ToLower(s.Value.Description), "seconds") {
				t.Errorf("%s.%s: the description does not say that it is seconds", name, field)
			}
		}
	}
}
