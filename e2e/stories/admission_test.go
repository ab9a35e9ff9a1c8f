package stories

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/herald-lb/herald/e2e/lab"
)

// An admission is a row of the files admission*.yaml in
// config/v1alpha1/testdata, which say what the texts mean.
type admission struct {
	Name    string         `json:"name"`
	Spec    map[string]any `json:"spec"`
	Change  map[string]any `json:"change"`
	Refused []string       `json:"refused"`
	Problem []string       `json:"problem"`
}

func TestWhatCannotBeIsRefusedWithFieldAndRemedy(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	for kind, file := range map[string]string{"AddressPool": "admission.yaml", "AddressClaim": "admission-claims.yaml", "BGPPeer": "admission-peers.yaml"} {
		t.Run(kind, func(t *testing.T) {
			for _, row := range admissions(t, file) {
				t.Run(row.Name, func(t *testing.T) { row.try(t, l, kind) })
			}
		})
	}
}

func admissions(t *testing.T, file string) []admission {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "config/v1alpha1/testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var rows []admission
	if err := yaml.Unmarshal(raw, &rows); err != nil {
		t.Fatalf("reading %s: %v", file, err)
	}
	if len(rows) == 0 {
		t.Fatalf("%s is empty", file)
	}
	return rows
}

func (a admission) try(t *testing.T, l *lab.Lab, kind string) {
	o := tried(t, kind, a.Spec)
	err := l.Try(o)
	if err == nil && a.Change != nil {
		l.Apply(o)
		defer l.Delete(o)
		err = l.Try(tried(t, kind, a.Change))
	}
	switch {
	case len(a.Refused) > 0:
		refused(t, err, a.Refused)
	case err != nil:
		t.Errorf("the API server refuses it: %v", err)
	case len(a.Problem) > 0:
		l.Apply(o)
		defer l.Delete(o)
		l.Eventually("the object says what is wrong", func() error { return complains(l, a.Problem) })
	}
}

// tried returns an object with a spec.
func tried(t *testing.T, kind string, spec map[string]any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "herald-lb.io/v1alpha1", "kind": kind, "metadata": map[string]any{"name": "tried"}, "spec": spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// refused checks that the API server has refused an object, and said all of
// texts: the field, and what to do.
func refused(t *testing.T, err error, texts []string) {
	t.Helper()
	if err == nil {
		t.Errorf("the API server takes it, want it refused with %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the API server says %q, which does not name %q", err, text)
		}
	}
}

// complains says whether the pool's condition Ready is false and holds all of
// texts.
func complains(l *lab.Lab, texts []string) error {
	c, err := l.PoolCondition("tried", "Ready")
	if err != nil {
		return err
	}
	if c.Status != metav1.ConditionFalse {
		return errors.New("it is ready")
	}
	for _, text := range texts {
		if !strings.Contains(c.Message, text) {
			return fmt.Errorf("it says %q, which does not hold %q", c.Message, text)
		}
	}
	return nil
}
