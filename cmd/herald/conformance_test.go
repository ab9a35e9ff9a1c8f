package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/herald-lb/herald/cloud/webhook"
)

func TestConformanceTable(t *testing.T) {
	var out bytes.Buffer
	err := printChecks(&out, []webhook.Check{{Name: "one"}, {Name: "two", Wrong: errors.New("not\nso")}, {Name: "three", Skipped: "no need"}})
	want := "CHECK  OK   WHAT WAS WRONG\none    yes  \ntwo    no   not; so\nthree  -    not tried: no need\n"
	if out.String() != want || err == nil || !strings.Contains(err.Error(), "1 of 3") {
		t.Errorf("%v\n%s\nwant\n%s", err, &out, want)
	}
}

func TestConformanceOfNoServer(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	for _, args := range [][]string{{srv.URL}, {"nowhere"}, {srv.URL, "--target", "vm@10.0.0.1"}, {srv.URL, "--target", "vm,vm"}, {srv.URL, "--token-file", "missing"}} {
		cmd := root()
		cmd.SetArgs(append([]string{"cloud", "conformance"}, args...))
		cmd.SetOut(&bytes.Buffer{})
		if err := cmd.Execute(); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
