package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"

	"github.com/herald-lb/herald/config/metallb"
)

const poolAndAd = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
`

// migrate runs the command on a file with text.
func migrate(t *testing.T, text string, flags ...string) (out, said string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "metallb.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := root()
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(append([]string{"migrate", "metallb", path}, flags...))
	if err := cmd.Execute(); err != nil {
		code = exitCode(err)
	}
	return stdout.String(), stderr.String(), code
}

func TestMigrateSaysByItsExitCodeWhatCameOfIt(t *testing.T) {
	tests := []struct {
		name, text string
		flags      []string
		code       int
		said       string
	}{
		{"all is translated", poolAndAd, nil, 0, ""},
		{"with -v every field is mentioned", poolAndAd, []string{"-v"}, 0, "IPAddressPool metallb-system/lan: spec.addresses: translated to addresses"},
		{"something has no equivalent", poolAndAd + "---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {vrf: red}\n", nil, 2, "BGPPeer tor: spec.vrf: no equivalent"},
		{"something is no pool for Herald", strings.ReplaceAll(poolAndAd, "192.0.2.0/24", "nonsense"), nil, 1, "AddressPool lan: spec.addresses[0]: Invalid"},
		{"something is no router for Herald", poolAndAd + "---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {myASN: 1, peerASN: 2}\n", nil, 1, "BGPPeer tor: spec.address: Invalid"},
		{"something cannot be read", poolAndAd + "---\n[", nil, 1, ""},
		{"something cannot be read and something has no equivalent", poolAndAd + "---\napiVersion: metallb.io/v1beta1\nkind: MetalLB\nmetadata: {name: x}\n---\n[", nil, 1, "MetalLB x: no equivalent"},
		{"there is nothing of MetalLB's", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n", nil, 0, "no pool of MetalLB's is in the input"},
		{"a flag has a value that is not known", poolAndAd, []string{"--services=all"}, 1, ""},
		{"there are files and a cluster", poolAndAd, []string{"--from-cluster"}, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, said, code := migrate(t, tt.text, tt.flags...)
			if code != tt.code || !strings.Contains(said, tt.said) || (tt.said == "") != (said == "") {
				t.Errorf("exit code %d, %q; want %d, %q", code, said, tt.code, tt.said)
			}
		})
	}
}

// The password of a router is written where Herald looks for it.
func TestMigrateWritesSecretsToHeraldsNamespace(t *testing.T) {
	const router = "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, password: secret}\n"
	for flag, want := range map[string]string{"-v": "namespace: herald-system\n", "--namespace=lb": "namespace: lb\n"} {
		if out, said, code := migrate(t, router, flag); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, %s\n%s", flag, code, said, out)
		}
	}
}

// What a cluster holds is read as files are, whatever versions it knows.
func TestReadCluster(t *testing.T) {
	pool := map[string]any{
		"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
		"metadata": map[string]any{"name": "lan", "namespace": "metallb-system"},
		"spec":     map[string]any{"addresses": []any{"192.0.2.0/24"}},
	}
	svc := map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "web", "namespace": "shop", "annotations": map[string]any{"metallb.io/address-pool": "lan"}},
		"spec":     map[string]any{"type": "LoadBalancer"},
	}
	config := map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "config", "namespace": "metallb-system"},
		"data": map[string]any{"config": "address-pools: [{name: old, protocol: layer2, addresses: [198.51.100.0/24]}]"},
	}
	kinds := map[schema.GroupVersionResource]string{}
	for _, versions := range metallbKinds {
		for _, v := range versions {
			kinds[v] = strings.ToUpper(v.Resource) + "List"
		}
	}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds)
	for gvr, o := range map[schema.GroupVersionResource]map[string]any{
		metallbKinds[0][0]: pool, metallbKinds[7][0]: svc, {Version: "v1", Resource: "configmaps"}: config,
	} {
		u := &unstructured.Unstructured{Object: o}
		if err := client.Tracker().Create(gvr, u, u.GetNamespace()); err != nil {
			t.Fatal(err)
		}
	}
	files, err := readCluster(t.Context(), client, "metallb-system")
	if err != nil {
		t.Fatal(err)
	}
	r, err := metallb.Migrate(files, "herald-system")
	if err != nil || len(r.Pools) != 2 || len(r.Services) != 1 {
		t.Errorf("Migrate() = %+v, %v; want two pools and a Service", r, err)
	}
}
