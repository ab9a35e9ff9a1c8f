package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/herald-lb/herald/internal/snapshot"
)

// An amnesia is a Source of n1 that cannot read the API, and what it has logged.
type amnesia struct {
	*Source
	log    bytes.Buffer
	loads  int
	synced atomic.Bool
}

// earlier is what an earlier process knew: three speakers, and that n4 was lost.
func earlier() snapshot.Snapshot {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	s := snapshot.Snapshot{Now: at, Recalled: at, Services: []snapshot.Service{{Key: "ns/web"}}}
	for _, node := range []string{"n1", "n2", "n3"} {
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: node, BFD: true, DataPath: "nft"})
	}
	s.Lost = []snapshot.Speaker{{Node: "n4", DataPath: "nft", Stale: true}} // without BFD
	return s
}

// forgetful runs play with an amnesia whose memory holds what load says.
func forgetful(t *testing.T, load func() (snapshot.Snapshot, error), play func(*amnesia)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &amnesia{}
		a.Source = newSource(informers{}, Options{
			Node: "n1", Ring: func() {}, Log: slog.New(slog.NewTextHandler(&a.log, nil)),
			Memory: Memory{
				Load: func() (snapshot.Snapshot, error) { a.loads++; return load() },
				Self: func() (snapshot.Speaker, error) { return snapshot.Speaker{Node: "n1", DataPath: "ipvs"}, nil },
			},
		})
		a.heard = []cache.InformerSynced{a.synced.Load}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		synctest.Wait()
		a.informers = newInformers(Clients{Core: fake.NewClientset()}, a.o) // which Run must not run
		play(a)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func kept() (snapshot.Snapshot, error) { return earlier(), nil }

// view is who is alive and who is lost, in words; "-" if there is no snapshot.
func (a *amnesia) view() string {
	s, ok := a.Take()
	if !ok {
		return "-"
	}
	text := fmt.Sprintf("%d:", len(s.Services))
	for _, sp := range s.Speakers {
		text += " " + sp.Node + "/" + sp.DataPath
	}
	text += " |"
	for _, sp := range s.Lost {
		text += " " + sp.Node
		if sp.Leaving {
			text += "(leaving)"
		}
		if sp.Stale {
			text += "(stale)"
		}
	}
	return text
}

func TestWhatWasKnownEarlierCountsWhileTheAPICannotBeRead(t *testing.T) {
	const reached, lost, left, untried, deaf = snapshot.Reached, snapshot.Lost, snapshot.Left, snapshot.Untried, snapshot.Deaf
	meet := func(n2, n3 snapshot.Contact) func(*amnesia) {
		return func(a *amnesia) { a.Meet(map[string]snapshot.Contact{"n2": n2, "n3": n3}) }
	}
	tests := []struct {
		name  string
		after time.Duration
		meet  func(*amnesia)
		want  string
	}{
		{"not before the API has been waited for", patience - time.Millisecond, meet(reached, reached), "-"},
		{"all are met: who is not known by BFD is lost", patience, meet(reached, reached), "1: n1/ipvs n2/nft n3/nft | n4"},
		{"one does not hear us: he is alive", patience, meet(reached, deaf), "1: n1/ipvs n2/nft n3/nft | n4"},
		{"one has gone", patience, meet(reached, left), "1: n1/ipvs n2/nft | n3(leaving) n4"},
		{"one was met and does not answer any more", patience, meet(lost, reached), "1: n1/ipvs n3/nft | n2 n4"},
		{"while one may yet be met nobody is alive, nor has fallen silent", patience, meet(reached, untried), "1: | n2(leaving) n3(leaving) n4(leaving)(stale)"},
		{"nor before anybody was looked for", patience, func(*amnesia) {}, "1: | n2(leaving) n3(leaving) n4(leaving)(stale)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			forgetful(t, kept, func(a *amnesia) {
				tt.meet(a)
				time.Sleep(tt.after)
				synctest.Wait()
				if got := a.view(); got != tt.want {
					t.Errorf("seen is %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestWhoIsNotMetInTimeIsLost(t *testing.T) {
	forgetful(t, kept, func(a *amnesia) {
		time.Sleep(patience)
		synctest.Wait()
		a.view()
		a.Meet(map[string]snapshot.Contact{"n2": snapshot.Reached})
		time.Sleep(meeting - time.Millisecond)
		if got := a.view(); strings.Contains(got, "n1/ipvs") {
			t.Errorf("in time: %q", got)
		}
		time.Sleep(judgeEvery)
		synctest.Wait()
		if got, want := a.view(), "1: n1/ipvs n2/nft | n3 n4"; got != want {
			t.Errorf("afterwards: %q, want %q", got, want)
		}
		if a.loads != 1 || strings.Count(a.log.String(), "going by what was known last") != 1 {
			t.Errorf("loaded %d times, and said:\n%s", a.loads, a.log.String())
		}
		// The API can be read at last: what it holds counts, which is nothing.
		a.synced.Store(true)
		if got, want := a.view(), "0: n1/ipvs n2/nft | n3 n4"; got != want {
			t.Errorf("with the API: %q, want %q", got, want)
		}
	})
}

func TestWithoutAMemoryTheAPIIsWaitedFor(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"none was kept", fs.ErrNotExist, "nothing is known from an earlier time"},
		{"it is damaged", errors.New("gzip: invalid checksum"), "gzip: invalid checksum"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			forgetful(t, func() (snapshot.Snapshot, error) { return snapshot.Snapshot{}, tt.err }, func(a *amnesia) {
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := a.view() + a.view(); got != "--" {
					t.Errorf("seen is %q", got)
				}
				if strings.Count(a.log.String(), tt.want) != 1 || a.loads != 1 {
					t.Errorf("loaded %d times, and said:\n%s", a.loads, a.log.String())
				}
			})
		})
	}
}

// A start on a day on which all is well is no reason to look at the disk.
func TestAMemoryIsNotLookedAtWhereTheAPIIsReadInTime(t *testing.T) {
	forgetful(t, kept, func(a *amnesia) {
		a.synced.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := a.view(); got != "0: |" || a.loads != 0 {
			t.Errorf("seen is %q, loaded %d times", got, a.loads)
		}
	})
}

// The Lease of this speaker, once it is seen to be renewed, ends what was recalled:
// from then on Leases and sessions decide.
func TestLeasesCountAgainOnceTheAPIIsThere(t *testing.T) {
	s := story(t)
	s.p.recalled, s.p.recalledSelf, s.p.recalledAt = earlier().Speakers[1:], snapshot.Speaker{Node: "n1"}, s.now
	s.after(meeting)
	s.meet("n2", snapshot.Reached)
	if got, want := s.judged(), "n1 n2 | n3"; got != want {
		t.Errorf("without Leases: %q, want %q", got, want)
	}
	s.renew("n3")
	if got, want := s.judged(), "n1 n2 | n3"; got != want {
		t.Errorf("with a Lease of another: %q, want %q", got, want)
	}
	s.renew("n1", "n2", "n3")
	if got, want := s.judged(), "n1 n2 n3 | "; got != want {
		t.Errorf("with Leases of all: %q, want %q", got, want)
	}
}
