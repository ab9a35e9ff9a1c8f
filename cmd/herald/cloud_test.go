package main

import (
	"bytes"
	"strings"
	"testing"
)

// The commands of Kubernetes' libraries are guests here: they change no other's flags.
func TestCloudIsAGuest(t *testing.T) {
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"--version"}, "herald version " + version},
		{[]string{"cloud", "--help"}, "--cloud-config"},
		{[]string{"cloud", "conformance", "--help"}, "--token-file"},
		{[]string{"plan", "--help"}, "--fail-on-loss"},
	} {
		var out bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		cmd.SetArgs(tt.args)
		if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), tt.says) {
			t.Errorf("herald %v: %v, and not %q in\n%s", tt.args, err, tt.says, &out)
		}
		if strings.Contains(out.String(), "Global Flags:\n      --version") {
			t.Errorf("herald %v has flags of others", tt.args)
		}
	}
}
