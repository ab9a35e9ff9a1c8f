package metallb

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// migrated are the golden files of one result: the stream, and everything that
// is said beside it.
func migrated(t testing.TB, form Form, files ...File) (stream, said string) {
	t.Helper()
	r, err := Migrate(files, herald)
	out, writeErr := r.YAML(form)
	if writeErr != nil {
		t.Fatal(writeErr)
	}
	var b strings.Builder
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "%s %s\n", map[Level]string{Done: "done     ", Attention: "attention", Missing: "missing  "}[n.Level], n)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem   AddressPool %s: %s: %s\n", p.Object, p.Field, p.Detail)
	}
	for _, p := range r.PeerProblems {
		fmt.Fprintf(&b, "problem   BGPPeer %s: %s: %s\n", p.Object, p.Field, p.Detail)
	}
	if err != nil {
		fmt.Fprintf(&b, "error:\n%v\n", err)
	}
	return string(out), b.String()
}

// unacceptable are the golden files with objects that MetalLB does not take either.
var unacceptable = map[string]bool{"odd": true, "selectors": true}

func TestGoldenFiles(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*/input.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range inputs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := File{"input.yaml", data}
			stream, said := migrated(t, Manifests, files)
			commands, _ := migrated(t, Annotate, files)
			if i := strings.Index(commands, "---\n# Before Herald"); i >= 0 {
				golden(t, filepath.Join(dir, "commands.txt"), commands[i:])
			}
			golden(t, filepath.Join(dir, "want.yaml"), stream)
			golden(t, filepath.Join(dir, "notes.txt"), said)
			if strings.Contains(stream+said, "swordfish") {
				t.Error("a password is shown")
			}
			if name := filepath.Base(dir); !unacceptable[name] && strings.Contains(said, "\nproblem ") {
				t.Error("Herald would not accept what is written")
			}
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update writes it):\n%s", path, diff)
	}
}

// split returns the documents of a stream.
func split(data []byte) [][]byte { return bytes.Split(data, []byte("\n---\n")) }

func TestTheOrderOfDocumentsAndFilesDoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"pools", "selectors", "layer2", "bgp", "configmap", "services"} {
		data, err := os.ReadFile("testdata/" + name + "/input.yaml")
		if err != nil {
			t.Fatal(err)
		}
		stream, said := migrated(t, Annotate, File{"f", data})
		for range 10 {
			var files []File
			docs := split(data)
			rnd.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
			for _, d := range docs {
				files = append(files, File{"f", d})
			}
			again, saidAgain := migrated(t, Annotate, files...)
			if diff := cmp.Diff(stream+said, again+saidAgain); diff != "" {
				t.Fatalf("%s, shuffled (-before +after):\n%s", name, diff)
			}
		}
	}
}

func TestConvertedPoolsAreNotConvertedAgain(t *testing.T) {
	r, err := Migrate([]File{{"f", []byte("apiVersion: herald-lb.io/v1alpha1\nkind: AddressPool\nmetadata: {name: lan}\n")}}, herald)
	if err != nil || len(r.Pools) != 0 || len(r.Notes) != 1 {
		t.Errorf("Migrate() = %v, %v, want one note and no pool", r, err)
	}
}

func FuzzMigrate(f *testing.F) {
	inputs, err := filepath.Glob("testdata/*/input.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range inputs {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, d := range split(data) {
			f.Add(d)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		stream, said := migrated(t, Annotate, File{"f", data})
		again, saidAgain := migrated(t, Annotate, File{"f", data})
		if stream != again || said != saidAgain {
			t.Errorf("two runs differ:\n%s%s\n%s%s", stream, said, again, saidAgain)
		}
		if _, err := Migrate([]File{{"again", []byte(stream)}}, herald); err != nil {
			t.Errorf("the output is no stream: %v\n%s", err, stream)
		}
	})
}
