package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealthIsAboutPassesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h health
		expect := func(want bool, when string) {
			t.Helper()
			if got := h.hangs(time.Now()); got != want {
				t.Errorf("%s: hangs = %t, want %t", when, got, want)
			}
		}
		expect(false, "before passes are run")
		refused := errors.New("no buffer space available")
		pass := h.watch(func(context.Context) error { return refused })
		for range 10 {
			time.Sleep(resync)
			if err := pass(t.Context()); !errors.Is(err, refused) {
				t.Errorf("the error of the pass is lost: %v", err)
			}
			expect(false, "while passes end, though badly")
		}
		time.Sleep(3*resync + time.Second)
		expect(true, "after a pass that does not end")
		h.rest()
		time.Sleep(time.Hour)
		expect(false, "while another replica leads")
	})
}

// A clock that is set while passes are run is none that passes go by.
func TestHealthGoesByAClockThatNobodySets(t *testing.T) {
	var h health
	pass := h.watch(func(context.Context) error { return nil })
	if err := pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := *h.ended.Load(); at == at.Round(0) { // which would strip the other
		t.Errorf("%v is by the clock on the wall alone", at)
	}
}
