package hetzner

import (
	"net/http"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

const vatPercent = 19

// A balancerType is a size of load balancer.
type balancerType struct {
	schema.LoadBalancerType
	price Price
}

// locations are those of October 2026.
var locations = []schema.Location{
	{ID: 1, Name: "fsn1", Description: "Falkenstein DC Park 1", Country: "DE", City: "Falkenstein", Latitude: 50.47612, Longitude: 12.370071, NetworkZone: "eu-central"},
	{ID: 2, Name: "nbg1", Description: "Nuremberg DC Park 1", Country: "DE", City: "Nuremberg", Latitude: 49.452102, Longitude: 11.076665, NetworkZone: "eu-central"},
	{ID: 3, Name: "hel1", Description: "Helsinki DC Park 1", Country: "FI", City: "Helsinki", Latitude: 60.169855, Longitude: 24.938379, NetworkZone: "eu-central"},
	{ID: 4, Name: "ash", Description: "Ashburn, VA", Country: "US", City: "Ashburn, VA", Latitude: 39.045821, Longitude: -77.487073, NetworkZone: "us-east"},
	{ID: 5, Name: "hil", Description: "Hillsboro, OR", Country: "US", City: "Hillsboro, OR", Latitude: 45.54222, Longitude: -122.951924, NetworkZone: "us-west"},
	{ID: 6, Name: "sin", Description: "Singapore", Country: "SG", City: "Singapore", Latitude: 1.283333, Longitude: 103.833333, NetworkZone: "ap-southeast"},
}

// Prices that do not depend on a size. What they are does not matter, so long
// as they differ.
var (
	floatingPrice = map[string]Price{"ipv4": {4_100, 3_000_000}, "ipv6": {1_400, 1_000_000}}
	primaryPrice  = map[string]Price{"ipv4": {800, 500_000}, "ipv6": {}}
	serverPrice   = Price{6_000, 3_790_000}
)

func balancerTypes() []balancerType {
	size := func(id int64, name string, services, targets int, p Price) balancerType {
		t := schema.LoadBalancerType{ID: id, Name: name, Description: name, MaxConnections: targets * 400,
			MaxServices: services, MaxTargets: targets, MaxAssignedCertificates: services * 2}
		for _, l := range locations {
			t.Prices = append(t.Prices, schema.PricingLoadBalancerTypePrice{
				Location: l.Name, PriceHourly: money(p.Hourly), PriceMonthly: money(p.Monthly),
				IncludedTraffic: 20 << 40, PricePerTBTraffic: money(1_000_000),
			})
		}
		return balancerType{t, p}
	}
	return []balancerType{
		size(1, "lb11", 5, 25, Price{8_600, 5_390_000}),
		size(2, "lb21", 15, 75, Price{26_300, 16_400_000}),
		size(3, "lb31", 30, 150, Price{52_700, 32_900_000}),
	}
}

func money(net Euro) schema.Price {
	return schema.Price{Net: net.String() + "0000", Gross: (net * (100 + vatPercent) / 100).String() + "0000"}
}

// location finds a location by ID or name.
func location(of string) (schema.Location, error) {
	for _, l := range locations {
		if l.Name == of || itoa(l.ID) == of {
			return l, nil
		}
	}
	return schema.Location{}, invalid("location", "there is no location %q", of)
}

// balancerType finds a size that can be had.
func (c *Cloud) balancerType(of schema.IDOrName) (balancerType, error) {
	for _, t := range c.types {
		if (of.ID != 0 && t.ID == of.ID) || (of.ID == 0 && t.Name == of.Name) {
			return t, nil
		}
	}
	return balancerType{}, invalid("load_balancer_type", "there is no such type")
}

func listBalancerTypes(c *Cloud, r *call) (reply, error) {
	var items []item
	for _, t := range c.types {
		items = append(items, item{id: t.ID, name: t.Name, show: t.LoadBalancerType})
	}
	return list(r, "load_balancer_types", items)
}

func getBalancerType(c *Cloud, r *call) (reply, error) {
	t, err := c.balancerType(schema.IDOrName{ID: r.ids[0]})
	if err != nil {
		return reply{}, notFound("load_balancer_type", r.ids[0])
	}
	return reply{http.StatusOK, schema.LoadBalancerTypeGetResponse{LoadBalancerType: t.LoadBalancerType}}, nil
}

func listLocations(_ *Cloud, r *call) (reply, error) {
	var items []item
	for _, l := range locations {
		items = append(items, item{id: l.ID, name: l.Name, show: l})
	}
	return list(r, "locations", items)
}

func getLocation(_ *Cloud, r *call) (reply, error) {
	i := slices.IndexFunc(locations, func(l schema.Location) bool { return l.ID == r.ids[0] })
	if i < 0 {
		return reply{}, notFound("location", r.ids[0])
	}
	return reply{http.StatusOK, schema.LocationGetResponse{Location: locations[i]}}, nil
}

// A pricing has the field that is deprecated, but that the API still sends.
type pricing struct {
	schema.Pricing
	FloatingIP schema.PricingFloatingIP `json:"floating_ip"`
}

func getPricing(c *Cloud, _ *call) (reply, error) {
	p := schema.Pricing{
		Currency: "EUR", VATRate: itoa(vatPercent) + ".000000",
		Image:        schema.PricingImage{PricePerGBMonth: money(11_000)},
		ServerBackup: schema.PricingServerBackup{Percentage: "20.000000"},
		Volume:       schema.PricingVolume{PricePerGBPerMonth: money(44_000)},
		ServerTypes:  []schema.PricingServerType{{ID: serverType.ID, Name: serverType.Name, Prices: serverType.Prices}},
	}
	for _, t := range c.types {
		p.LoadBalancerTypes = append(p.LoadBalancerTypes, schema.PricingLoadBalancerType{ID: t.ID, Name: t.Name, Prices: t.Prices})
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		f := schema.PricingFloatingIPType{Type: family}
		pr := schema.PricingPrimaryIP{Type: family}
		for _, l := range locations {
			f.Prices = append(f.Prices, schema.PricingFloatingIPTypePrice{Location: l.Name, PriceMonthly: money(floatingPrice[family].Monthly)})
			pr.Prices = append(pr.Prices, schema.PricingPrimaryIPTypePrice{Location: l.Name,
				PriceHourly: money(primaryPrice[family].Hourly), PriceMonthly: money(primaryPrice[family].Monthly)})
		}
		p.FloatingIPs = append(p.FloatingIPs, f)
		p.PrimaryIPs = append(p.PrimaryIPs, pr)
	}
	old := schema.PricingFloatingIP{PriceMonthly: money(floatingPrice["ipv4"].Monthly)}
	return reply{http.StatusOK, map[string]any{"pricing": pricing{p, old}}}, nil
}
