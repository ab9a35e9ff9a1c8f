package herald

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"
)

// What stands beside deploy/base's kustomization is a part of it.
func TestEverythingOfTheBaseIsInstalled(t *testing.T) {
	const base = "deploy/base"
	text, err := os.ReadFile(filepath.Join(base, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"kustomization.yaml": true}
	for _, r := range k.Resources {
		listed[r] = true
	}
	for _, pattern := range []string{"*.yaml", "crds/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(base, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, f := range files {
			if name, _ := filepath.Rel(base, f); !listed[name] {
				t.Errorf("%s is not among the resources of its kustomization.yaml", f)
			}
		}
	}
}
