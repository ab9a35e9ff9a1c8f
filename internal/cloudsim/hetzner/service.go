package hetzner

import (
	"encoding/json"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

const (
	protoTCP   = string(hcloud.LoadBalancerServiceProtocolTCP)
	protoHTTP  = string(hcloud.LoadBalancerServiceProtocolHTTP)
	protoHTTPS = string(hcloud.LoadBalancerServiceProtocolHTTPS)
)

// newService makes a service, and refuses one that lb cannot have.
func (c *Cloud) newService(lb *balancer, req schema.LoadBalancerActionAddServiceRequest) (schema.LoadBalancerService, error) {
	s := schema.LoadBalancerService{Protocol: req.Protocol}
	switch req.Protocol {
	case protoHTTP:
		s.ListenPort, s.DestinationPort = 80, 80
	case protoHTTPS:
		s.ListenPort, s.DestinationPort = 443, 80
	}
	assign(&s.ListenPort, req.ListenPort)
	assign(&s.DestinationPort, req.DestinationPort)
	assign(&s.Proxyprotocol, req.Proxyprotocol)
	if s.Protocol != protoTCP {
		s.HTTP = &schema.LoadBalancerServiceHTTP{CookieName: "HCLBSTICKY", CookieLifetime: 300, Certificates: []int64{}, TimeoutIdle: 60}
	}
	s.HealthCheck = &schema.LoadBalancerServiceHealthCheck{Protocol: protoTCP, Port: s.DestinationPort, Interval: 15, Timeout: 10, Retries: 3}
	merge(s.HTTP, req.HTTP)
	setHealthCheck(s.HealthCheck, req.HealthCheck)
	if len(lb.Services) >= lb.size.MaxServices {
		return s, errorf(codeLimit, "%s takes at most %d services", lb.size.Name, lb.size.MaxServices)
	}
	return s, checkService(lb, s, lb.Services)
}

// merge sets what a request sets: it has the fields of to, and leaves out
// those that shall stay.
func merge(to, req any) {
	if text := string(mustMarshal(req)); text != "null" && string(mustMarshal(to)) != "null" {
		_ = json.Unmarshal([]byte(text), to) // what was just written fits
	}
}

func setHealthCheck(to *schema.LoadBalancerServiceHealthCheck, req any) {
	had := to.HTTP
	merge(to, req)
	if to.Protocol != protoHTTP {
		to.HTTP = nil
		return
	}
	if had == nil {
		had = &schema.LoadBalancerServiceHealthCheckHTTP{Path: "/", StatusCodes: []string{"2??", "3??"}}
	}
	merge(had, to.HTTP)
	if had.StatusCodes == nil {
		had.StatusCodes = []string{}
	}
	to.HTTP = had
}

// checkService refuses ports and numbers that are out of range, and ports that
// one of the others listens on.
func checkService(lb *balancer, s schema.LoadBalancerService, others []schema.LoadBalancerService) error {
	hc := s.HealthCheck
	switch {
	case s.Protocol != protoTCP && s.Protocol != protoHTTP && s.Protocol != protoHTTPS:
		return invalid("protocol", "there is no protocol %q", s.Protocol)
	case !isPort(s.ListenPort):
		return invalid("listen_port", "%d is no port", s.ListenPort)
	case !isPort(s.DestinationPort):
		return invalid("destination_port", "%d is no port", s.DestinationPort)
	case !isPort(hc.Port):
		return invalid("health_check.port", "%d is no port", hc.Port)
	case hc.Protocol != protoTCP && hc.Protocol != protoHTTP:
		return invalid("health_check.protocol", "there is no protocol %q", hc.Protocol)
	case hc.Interval < 3 || hc.Interval > 60 || hc.Timeout < 1 || hc.Timeout > hc.Interval || hc.Retries < 0 || hc.Retries > 5:
		return invalid("health_check", "interval must be in 3-60, timeout in 1-interval, retries in 0-5")
	case s.HTTP != nil && len(s.HTTP.Certificates) > lb.size.MaxAssignedCertificates:
		return errorf(codeLimit, "%s takes at most %d certificates", lb.size.Name, lb.size.MaxAssignedCertificates)
	case s.Protocol == protoHTTPS && len(s.HTTP.Certificates) == 0:
		return invalid("http.certificates", "https needs a certificate")
	}
	for _, o := range others {
		for _, port := range listens(s) {
			if slices.Contains(listens(o), port) {
				return errorf(string(hcloud.ErrorCodeSourcePortAlreadyUsed), "source port %d is already used", port)
			}
		}
	}
	return nil
}

func isPort(n int) bool { return n >= 1 && n <= 65535 }

// listens are a service's ports: one that redirects takes port 80, too.
func listens(s schema.LoadBalancerService) []int {
	if s.Protocol == protoHTTPS && s.HTTP != nil && s.HTTP.RedirectHTTP {
		return []int{s.ListenPort, 80}
	}
	return []int{s.ListenPort}
}

func addService(c *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionAddServiceRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	s, err := c.newService(lb, req)
	return func() { lb.Services = append(lb.Services, s) }, err
}

func updateService(_ *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerActionUpdateServiceRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	i, err := serviceAt(lb, req.ListenPort)
	if err != nil {
		return nil, err
	}
	s := clone(lb.Services[i])
	assign(&s.Protocol, req.Protocol)
	assign(&s.DestinationPort, req.DestinationPort)
	assign(&s.Proxyprotocol, req.Proxyprotocol)
	switch {
	case s.Protocol == protoTCP:
		s.HTTP = nil
	case s.HTTP == nil:
		s.HTTP = &schema.LoadBalancerServiceHTTP{CookieName: "HCLBSTICKY", CookieLifetime: 300, Certificates: []int64{}, TimeoutIdle: 60}
	}
	merge(s.HTTP, req.HTTP)
	setHealthCheck(s.HealthCheck, req.HealthCheck)
	others := slices.Delete(slices.Clone(lb.Services), i, i+1)
	return func() {
		if i, err := serviceAt(lb, s.ListenPort); err == nil { // somebody may have edited it meanwhile
			lb.Services[i] = s
		}
	}, checkService(lb, s, others)
}

func deleteService(_ *Cloud, lb *balancer, r *call) (func(), error) {
	var req schema.LoadBalancerDeleteServiceRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	_, err := serviceAt(lb, req.ListenPort)
	return func() {
		lb.Services = slices.DeleteFunc(lb.Services, func(s schema.LoadBalancerService) bool { return s.ListenPort == req.ListenPort })
	}, err
}

func serviceAt(lb *balancer, port int) (int, error) {
	i := slices.IndexFunc(lb.Services, func(s schema.LoadBalancerService) bool { return s.ListenPort == port })
	if i < 0 {
		return 0, errorf(codeNotFound, "no service listens on port %d", port)
	}
	return i, nil
}
