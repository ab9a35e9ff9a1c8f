package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"    a_test.go:3: chatter\n"}
{"Action":"pass","Package":"p","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    a_test.go:4: chatter\n"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    a_test.go:5: one is not two\n"}
{"Action":"fail","Package":"p","Test":"TestBad","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestIPVS","Output":"    a_test.go:9: finding IPVS: no such file\n"}
{"Action":"output","Package":"p","Test":"TestIPVS","Output":"--- SKIP: TestIPVS (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestIPVS","Elapsed":0}
{"Action":"output","Package":"p","Test":"TestHung","Output":"panic: test timed out\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.2s\n"}
{"Action":"fail","Package":"p","Elapsed":0.2}
not an event
`

func TestScribeShowsWhatFailedAndNothingElse(t *testing.T) {
	var out strings.Builder
	s := scribe{out: &out, lines: map[key][]string{}}
	if err := s.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	s.complaints()
	want := "    a_test.go:4: chatter\n" +
		"    a_test.go:5: one is not two\n" +
		"FAIL\tp\t0.2s\n" +
		"panic: test timed out\n" +
		"not an event\n" +
		"  failed: p TestBad: a_test.go:4: chatter | a_test.go:5: one is not two\n"
	if out.String() != want {
		t.Errorf("printed:\n%s\nwant:\n%s", out.String(), want)
	}
	wantOutcomes := []outcome{
		{"p", "TestGood", "pass", ""},
		{"p", "TestBad", "fail", "a_test.go:4: chatter | a_test.go:5: one is not two"},
		{"p", "TestIPVS", "skip", "finding IPVS: no such file"},
	}
	if !slices.Equal(s.outcomes, wantOutcomes) {
		t.Errorf("outcomes %v\nwant     %v", s.outcomes, wantOutcomes)
	}
}

func TestNeverRan(t *testing.T) {
	skip := outcome{"p", "TestA", "skip", "no IPVS"}
	tests := []struct {
		name  string
		all   []outcome
		never []outcome
		ran   int
	}{
		{"skipped everywhere never ran", []outcome{skip, skip}, []outcome{skip}, 0},
		{"skipped here and passed there ran", []outcome{skip, {"p", "TestA", "pass", ""}}, nil, 1},
		{"passed here and skipped there ran", []outcome{{"p", "TestA", "pass", ""}, skip}, nil, 1},
		{"failed is not skipped", []outcome{skip, {"p", "TestA", "fail", ""}}, nil, 1},
		{"the same name in another package is another test", []outcome{skip, {"q", "TestA", "pass", ""}}, []outcome{skip}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			never, ran := neverRan(tt.all)
			if !slices.Equal(never, tt.never) || ran != tt.ran {
				t.Errorf("neverRan() = %v, %d\nwant         %v, %d", never, ran, tt.never, tt.ran)
			}
		})
	}
}

func TestSkippedIsAnErrorOnlyWhereStrict(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcomes")
	if err := writeOutcomes(file, []outcome{{"p", "TestA", "skip", "no IPVS"}, {"p", "TestB", "pass", ""}}); err != nil {
		t.Fatal(err)
	}
	for _, strict := range []bool{false, true} {
		var out strings.Builder
		if err := skipped([]string{file}, strict, &out); (err != nil) != strict {
			t.Errorf("skipped(strict %t) = %v", strict, err)
		}
		want := "1 tests ran, 1 were skipped\n  skipped: p TestA: no IPVS\n"
		if out.String() != want {
			t.Errorf("printed %q\nwant    %q", out.String(), want)
		}
	}
}

func TestReasonOfASkipWithoutWords(t *testing.T) {
	if got := reason([]string{"=== RUN TestA\n", "--- SKIP: TestA (0.00s)\n"}); got != "no reason given" {
		t.Errorf("reason() = %q", got)
	}
}
