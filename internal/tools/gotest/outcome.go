package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// An outcome is how one test ended in one run.
type outcome struct {
	Package string
	Test    string
	Outcome string // pass, fail or skip
	Reason  string `json:",omitempty"` // of a skip or failure
}

// neverRan returns the tests that were skipped in every run, in order, and the
// number of those that ran in at least one.
func neverRan(all []outcome) (never []outcome, ran int) {
	done, waiting := map[key]bool{}, map[key]outcome{}
	for _, o := range all {
		k := key{o.Package, o.Test}
		if o.Outcome != "skip" {
			done[k] = true
			continue
		}
		waiting[k] = o
	}
	for _, k := range slices.SortedFunc(maps.Keys(waiting), compareKeys) {
		if !done[k] {
			never = append(never, waiting[k])
		}
	}
	return never, len(done)
}

func writeOutcomes(file string, outcomes []outcome) error {
	if file == "" {
		return nil
	}
	var text bytes.Buffer
	for _, o := range outcomes {
		line, err := json.Marshal(o)
		if err != nil {
			return err
		}
		text.Write(append(line, '\n'))
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}

func readOutcomes(file string) ([]outcome, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []outcome
	decoder := json.NewDecoder(bytes.NewReader(text))
	for {
		var o outcome
		switch err := decoder.Decode(&o); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		all = append(all, o)
	}
}
