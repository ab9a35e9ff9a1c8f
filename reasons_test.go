package herald

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Every condition and every reason that people can come to see is explained in
// docs/reasons.md.
func TestEveryReasonIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct {
		path   string
		fewest int // beside a change of form, which this test would not see
	}{
		{"ipam/types.go", 14},
		{"config/config.go", 2},
		{"controller/status.go", 11},
		{"cloud/reasons.go", 19},
	} {
		reasons := reasonConstants(parse(t, file.path))
		if len(reasons) < file.fewest {
			t.Errorf("%s has the reasons %q, want at least %d", file.path, reasons, file.fewest)
		}
		documented(t, string(doc), file.path, reasons)
	}
	paths, err := filepath.Glob("controller/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, "_test.go") {
			documented(t, string(doc), path, reasonLiterals(parse(t, path)))
		}
	}
}

func documented(t *testing.T, doc, path string, reasons []string) {
	t.Helper()
	for _, r := range reasons {
		if !strings.Contains(doc, "`"+r+"`") {
			t.Errorf("docs/reasons.md does not explain `%s`, which stands in %s", r, path)
		}
	}
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reasonConstants returns the string constants of f that have no type, or the
// type Reason: constants of other types are the values of settings.
func reasonConstants(f *ast.File) (reasons []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			return true
		}
		for _, s := range decl.Specs {
			spec := s.(*ast.ValueSpec) // a const declaration has no others
			if name, ok := spec.Type.(*ast.Ident); spec.Type != nil && (!ok || name.Name != "Reason") {
				continue
			}
			for _, value := range spec.Values {
				reasons = append(reasons, text(value)...)
			}
		}
		return true
	})
	return reasons
}

// reasonLiterals returns what fields called Reason are set to in f by texts in
// place.
func reasonLiterals(f *ast.File) (reasons []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Reason" {
				reasons = append(reasons, text(kv.Value)...)
			}
		}
		return true
	})
	return reasons
}

// text returns what e says if it is a text.
func text(e ast.Expr) []string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return nil
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return nil
	}
	return []string{s}
}
