package cloud_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/herald-lb/herald/cloud"
)

func TestParseConfig(t *testing.T) {
	tests := []struct {
		name, text, says string // nothing for one that is right
	}{
		{"defaults", "provider: hetzner", ""},
		{"no text at all", "", ""},
		{"all of it", "provider: hetzner\nclusterID: c1\ndefaults: {type: lb11, usePrivateIP: true}\nhealthCheck: {mode: nodeport, interval: 20s}\nbudget: {requestsPerHour: 600}\ndrift: {interval: 1m}\ngc: {mode: delete, grace: 2h}\nlimits: {maxLoadBalancers: 3, maxMonthlyCost: 20.5}\ndryRun: true\nclass: example.com/lb\nclassOnly: true", ""},
		{"a key that is none", "provider: hetzner\ntoken: s3cr3t", `unknown field "token"`},
		{"another provider", "provider: openstack", `provider is "openstack"`},
		{"a mode that is none", "healthCheck: {mode: icmp}", "healthCheck.mode"},
		{"a mode that is another's", "healthCheck: {mode: custom}", "auto, nodeport or kubeproxy"},
		{"a port that is none", "healthCheck: {port: 0}", "healthCheck.port"},
		{"a path that is none", "healthCheck: {path: ok}", "healthCheck.path"},
		{"a timeout above the interval", "healthCheck: {interval: 5s}", "healthCheck.timeout"},
		{"a budget that is none", "budget: {requestsPerHour: 1}", "60 or more"},
		{"a reserve of all", "budget: {reserveForFailover: 100}", "0 to 90"},
		{"looking all the time", "drift: {interval: 1s}", "10s or more"},
		{"no grace", "gc: {grace: 0s}", "gc.grace"},
		{"a mode of gc that is none", "gc: {mode: maybe}", "report or delete"},
		{"none per run", "gc: {maxPerRun: 0}", "gc.maxPerRun"},
		{"limits below nothing", "limits: {maxLoadBalancers: -1}", "not negative"},
		{"no YAML", "provider: [", "the cloud's configuration"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := cloud.ParseConfig(strings.NewReader(tt.text), "hetzner")
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("ParseConfig() = %v, not %q", err, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%v tells a secret", err)
			}
		})
	}
	if c, err := cloud.ParseConfig(nil, "hetzner"); err != nil || c.Provider != "hetzner" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
}

func TestToken(t *testing.T) {
	t.Setenv("A_TOKEN", "of-the-environment")
	file := filepath.Join(t.TempDir(), "token")
	if got, err := (cloud.Config{}).Token("A_TOKEN"); got != "of-the-environment" || err != nil {
		t.Errorf("Token() = %q, %v", got, err)
	}
	c := cloud.Config{TokenFile: file}
	for _, text := range []string{"first\n", "second"} { // it is read again
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Token("A_TOKEN"); got != strings.TrimSpace(text) || err != nil {
			t.Errorf("Token() = %q, %v", got, err)
		}
	}
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []cloud.Config{c, {TokenFile: file + ".none"}} {
		if got, err := c.Token("A_TOKEN"); got != "" || !cloud.Is(err, cloud.Auth) {
			t.Errorf("Token() = %q, %v", got, err)
		}
	}
}
