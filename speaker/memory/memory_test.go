package memory

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// cluster has something in every kind of field.
func cluster() snapshot.Snapshot {
	return snapshot.Snapshot{
		Now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC),
		Config: config.Config{Pools: []config.Pool{{
			Pool:   ipam.Pool{Name: "lan", Ranges: []ipam.Range{{First: addr("192.0.2.1"), Last: addr("192.0.2.9")}, {First: addr("2001:db8::1"), Last: addr("2001:db8::9")}}},
			Layer2: config.Layer2{Enabled: true, Interfaces: []string{"eth*"}, Failback: config.FailbackNever},
			Steer:  config.SteerIPVS, Scheduler: "mh", SchedulerFlags: config.SchedulerPort,
		}}},
		Nodes: []snapshot.Node{{
			Name: "n1", Addrs: []netip.Addr{addr("192.0.2.101")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
			Ready: true, Announces: []string{"lan"}, Ranks: map[string]int{"lan": 1},
		}},
		Speakers: []snapshot.Speaker{{Node: "n1", BFD: true, Links: []snapshot.Link{{
			Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.101/24")},
		}}}},
		Lost: []snapshot.Speaker{{Node: "n2", Leaving: true, Tunnels: []netip.Addr{addr("2001:db8::102")}}},
		Services: []snapshot.Service{
			{Key: "ns/a", Namespace: "ns", Name: "a", Served: true, Ours: true, Revision: 7, Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
				Families: []ipam.Family{ipam.IPv4}, Ingress: []snapshot.Ingress{{Addr: addr("192.0.2.1"), Mode: "VIP"}},
				Ports:     []snapshot.Port{{Name: "http", Proto: snapshot.TCP, Number: 80}},
				Endpoints: []snapshot.Endpoint{{Addr: addr("10.244.1.7"), Node: "n1", Ready: true, Ports: []snapshot.Target{{Name: "http", Proto: snapshot.TCP, Number: 8080}}}},
				Affinity:  3 * time.Hour, Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
			{Key: "ns/b", Namespace: "ns", Name: "b", Served: true},
		},
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	if _, err := Load(dir, "n1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before anything was written: %v", err)
	}
	want := cluster()
	// A process that was killed in the midst of it has left something.
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, fileName+unfinished), []byte("half of it"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := write(dir, "n1", want); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	want.Recalled = want.Now
	want.Services[0].Revision = 0 // of another process
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("read (+) what was not written (-):\n%s", diff)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the directory has %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; want it for its owner only", info.Mode(), err)
	}
	if err := errors.Join(Remove(dir), Remove(dir), Remove("")); err != nil {
		t.Errorf("removing: %v", err)
	}
	if _, err := Load(dir, "n1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("once it was removed: %v", err)
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	var good bytes.Buffer
	if err := encode(&good, "n1", cluster()); err != nil {
		t.Fatal(err)
	}
	zipped := func(text string) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.Bytes()
	}
	flipped := bytes.Clone(good.Bytes())
	flipped[len(flipped)-6] ^= 1 // of the checksum
	tests := []struct {
		name, node string
		file       []byte
		want       string
	}{
		{"nothing", "n1", nil, "EOF"},
		{"no archive", "n1", []byte("Herald was here, and left a text"), "gzip: invalid header"},
		{"cut off", "n1", good.Bytes()[:good.Len()/2], "unexpected EOF"},
		{"damaged", "n1", flipped, "gzip: invalid checksum"},
		{"no JSON", "n1", zipped("null and void"), "another release wrote it"},
		{"of another format", "n1", zipped(fmt.Sprintf(`{"Format":%d}`, format+1)), "another release wrote it"},
		{"with fewer Services than it says", "n1", zipped(fmt.Sprintf(`{"Format":%d,"Node":"n1","Services":1}`, format)), "EOF"},
		{"of another node", "n2", good.Bytes(), `it is of node "n1", not "n2"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Load(dir, tt.node)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), fileName) {
				t.Errorf("error %v, want one about the file with %q", err, tt.want)
			}
			if s.Services != nil || !s.Recalled.IsZero() {
				t.Errorf("something was read all the same: %+v", s)
			}
		})
	}
}

// A release must not take what another one has written for its own.
func TestTheFormatIsOfTheShape(t *testing.T) {
	const shape = "8e8d"
	seen := map[reflect.Type]bool{}
	var text strings.Builder
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		fmt.Fprintf(&text, "%s;", of)
		if seen[of] {
			return
		}
		seen[of] = true
		switch of.Kind() {
		case reflect.Struct:
			for i := range of.NumField() {
				if f := of.Field(i); f.IsExported() {
					fmt.Fprintf(&text, "%s %s:", f.Name, f.Tag)
					walk(f.Type)
				}
			}
		case reflect.Slice, reflect.Pointer, reflect.Array:
			walk(of.Elem())
		case reflect.Map:
			walk(of.Key())
			walk(of.Elem())
		}
	}
	walk(reflect.TypeFor[head]())
	walk(reflect.TypeFor[snapshot.Service]())
	sum := fmt.Sprintf("%x", checksum(text.String()))
	if sum != shape {
		t.Errorf("what is written has another shape, %s: raise format, which is %d, and set shape here", sum, format)
	}
}

func checksum(s string) (sum uint16) {
	for i := range len(s) {
		sum = sum*31 + uint16(s[i])
	}
	return sum
}

func TestAKeeperWritesWhatIsNewAndNotAllTheTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := New(dir, "n1", slog.New(slog.DiscardHandler))
		ended := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { ended <- k.Run(ctx) }()
		writes := func() (at time.Time) {
			t.Helper()
			synctest.Wait()
			s, err := Load(dir, "n1")
			if err != nil {
				t.Fatal(err)
			}
			return s.Now
		}
		follow := func(s snapshot.Snapshot) {
			t.Helper()
			if err := k.Follow(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
		first := cluster()
		follow(first)
		synctest.Wait()
		if _, err := Load(dir, "n1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the first is written while the speaker starts: %v", err)
		}
		time.Sleep(least)
		if !writes().Equal(first.Now) {
			t.Error("the first is not written soon")
		}
		same := first
		same.Now = first.Now.Add(time.Second)
		follow(same)
		time.Sleep(time.Minute)
		if !writes().Equal(first.Now) {
			t.Error("what is not new was written")
		}
		second := cluster()
		second.Now = first.Now.Add(time.Minute)
		follow(second)
		third := cluster()
		third.Now = second.Now.Add(time.Second)
		if at := writes(); !at.Equal(second.Now) {
			t.Errorf("after a while nothing is written at once: %v", at)
		}
		follow(third)
		time.Sleep(least - time.Second)
		if !writes().Equal(second.Now) {
			t.Error("it is written too often")
		}
		time.Sleep(2 * time.Second)
		if !writes().Equal(third.Now) {
			t.Error("it is not written in the end")
		}
		recalled := cluster()
		recalled.Now, recalled.Recalled = third.Now.Add(time.Hour), third.Now
		follow(recalled)
		time.Sleep(time.Minute)
		if !writes().Equal(third.Now) {
			t.Error("what was recalled was written as if it were news")
		}
		fourth := cluster()
		fourth.Now = third.Now.Add(time.Minute)
		follow(fourth)
		writes()
		fifth := cluster()
		fifth.Now = fourth.Now.Add(time.Second)
		follow(fifth)
		stop()
		if err := <-ended; err != nil || !writes().Equal(fifth.Now) {
			t.Errorf("the last is not written in the end: %v", err)
		}
	})
}

func TestWhereNothingCanBeWrittenItIsSaidOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		k := New(file, "n1", slog.New(slog.NewTextHandler(&log, nil)))
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		for range 3 {
			if err := k.Follow(ctx, cluster()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it has ended with %v", err)
		}
		if n := strings.Count(log.String(), "cannot be kept"); n != 1 {
			t.Errorf("it was said %d times:\n%s", n, log.String())
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	s := cluster()
	one := s.Services[0]
	for i := range 10_000 {
		one.Key = fmt.Sprintf("ns/%d", i)
		one.Endpoints = append(one.Endpoints[:1:1], one.Endpoints[0], one.Endpoints[0])
		s.Services = append(s.Services, one)
	}
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		if err := write(dir, "n1", s); err != nil {
			b.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB")
}
