package openstack

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"sigs.k8s.io/yaml"

	"github.com/herald-lb/herald/cloud"
)

// clients talk to the two services.
type clients struct {
	lb, net *gophercloud.ServiceClient

	// places holds the subnets, networks and flavors that were looked up: by what hardly
	// ever changes.
	places sync.Map
	seen   sync.Map // members of pools, a memory by the pool's ID
}

// connect logs in, unless that was done. A token that has ended is renewed by the
// SDK, which repeats the call that was refused for it: nothing was done by that.
func (d *driver) connect(ctx context.Context) (*clients, error) {
	d.connecting.Lock()
	defer d.connecting.Unlock()
	if d.connected != nil {
		return d.connected, nil
	}
	auth, where, err := d.credentials()
	if err != nil {
		return nil, &cloud.Error{Class: cloud.Auth, Reason: "CloudAuthFailed", Text: "reading OpenStack's credentials", Err: err}
	}
	provider, err := openstack.NewClient(auth.IdentityEndpoint)
	if err != nil {
		return nil, &cloud.Error{Class: cloud.Auth, Reason: "CloudAuthFailed", Text: "OpenStack's auth URL is none"}
	}
	provider.HTTPClient = *d.http
	// Other than a password of HTTP's own, what logs in, and the token, would go with a
	// redirection to any server.
	provider.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	provider.UserAgent.Prepend("herald")
	if err := openstack.Authenticate(ctx, provider, auth); err != nil {
		return nil, explain(err, "logging in to OpenStack")
	}
	c := &clients{}
	if c.lb, err = openstack.NewLoadBalancerV2(provider, where); err != nil {
		return nil, explain(err, "looking for the service load-balancer, Octavia")
	}
	if c.net, err = openstack.NewNetworkV2(provider, where); err != nil {
		return nil, explain(err, "looking for the service network, Neutron")
	}
	d.connected = c
	return c, nil
}

// credentials are those of clouds.yaml, if a cloud of it is named in the
// configuration or by OS_CLOUD, or else of the environment.
func (d *driver) credentials() (gophercloud.AuthOptions, gophercloud.EndpointOpts, error) {
	options := []clouds.ParseOption{}
	switch name := d.config.OpenStack.Cloud; {
	case name != "":
		options = append(options, clouds.WithCloudName(name))
	case os.Getenv("OS_CLOUD") == "":
		text, err := yaml.Marshal(clouds.Clouds{Clouds: map[string]clouds.Cloud{"environment": {AuthInfo: environment()}}})
		if err != nil {
			return gophercloud.AuthOptions{}, gophercloud.EndpointOpts{}, err
		}
		options = append(options, clouds.WithCloudName("environment"), clouds.WithCloudsYAML(bytes.NewReader(text)))
	}
	if d.config.Endpoint != "" {
		options = append(options, clouds.WithIdentityEndpoint(d.config.Endpoint))
	}
	if d.config.OpenStack.Region != "" {
		options = append(options, clouds.WithRegion(d.config.OpenStack.Region))
	}
	auth, where, _, err := clouds.Parse(options...)
	if err != nil && strings.Contains(err.Error(), "yaml:") {
		err = errors.New("clouds.yaml or secure.yaml is not as it should be") // for YAML's errors quote it, and it is secret
	}
	// A token cannot make itself anew.
	auth.AllowReauth = auth.TokenID == ""
	return auth, where, err
}

// environment reads the variables of an openrc file. The SDK's own function for it
// knows no domains of users and projects.
func environment() *clouds.AuthInfo {
	get := func(names ...string) string {
		for _, n := range names {
			if v := os.Getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	return &clouds.AuthInfo{
		AuthURL:                     get("OS_AUTH_URL"),
		Token:                       get("OS_TOKEN"),
		Username:                    get("OS_USERNAME"),
		UserID:                      get("OS_USER_ID", "OS_USERID"),
		Password:                    get("OS_PASSWORD"),
		ApplicationCredentialID:     get("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   get("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: get("OS_APPLICATION_CREDENTIAL_SECRET"),
		ProjectID:                   get("OS_PROJECT_ID", "OS_TENANT_ID"),
		ProjectName:                 get("OS_PROJECT_NAME", "OS_TENANT_NAME"),
		UserDomainID:                get("OS_USER_DOMAIN_ID"),
		UserDomainName:              get("OS_USER_DOMAIN_NAME"),
		ProjectDomainID:             get("OS_PROJECT_DOMAIN_ID"),
		ProjectDomainName:           get("OS_PROJECT_DOMAIN_NAME"),
		DomainID:                    get("OS_DOMAIN_ID", "OS_DEFAULT_DOMAIN"),
		DomainName:                  get("OS_DOMAIN_NAME"),
	}
}
