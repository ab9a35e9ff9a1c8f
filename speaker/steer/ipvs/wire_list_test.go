package ipvs

import (
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// A dumpSocket answers the one request it gets with datagrams.
type dumpSocket struct {
	datagrams [][]byte
	trouble   []error // the first calls of receive fail with these
	sent      bool
}

func (d *dumpSocket) send([]byte) error { d.sent = true; return nil }

func (d *dumpSocket) receive() ([][]byte, error) {
	if len(d.trouble) > 0 {
		err := d.trouble[0]
		d.trouble = d.trouble[1:]
		return nil, err
	}
	if !d.sent || len(d.datagrams) == 0 {
		return nil, unix.EAGAIN
	}
	some := d.datagrams[:1]
	d.datagrams = d.datagrams[1:]
	return some, nil
}

func (d *dumpSocket) close() error { return nil }

// dumpOf is the whole dump of services, two to a datagram.
func dumpOf(all []moby.Service) (datagrams [][]byte) {
	for some := range slices.Chunk(all, 2) {
		var d []byte
		for _, svc := range some {
			d = append(d, asListed(1, svc)...)
		}
		datagrams = append(datagrams, d)
	}
	return append(datagrams, dumpDone(1, 0))
}

// tableOf are the rows of services, each with one destination.
func tableOf(all []moby.Service) []tableRow {
	rows := make([]tableRow, len(all))
	for i, svc := range all {
		rows[i] = tableRow{idOf(&svc), svc.SchedName, []moby.Destination{dest4("10.0.0.7:8080", i)}}
	}
	return rows
}

// A reading is what dump and file show at one attempt.
type reading struct {
	dump  *dumpSocket
	table string
}

// listAll lists with one reading for each attempt.
func listAll(ctx context.Context, readings ...*reading) (all []listing, attempts int, err error) {
	w := lister(
		func() (wireSocket, error) { attempts++; return readings[attempts-1].dump, nil },
		func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(readings[attempts-1].table)), nil
		})
	all, err = w.list(ctx)
	return all, attempts, err
}

func readingOf(dumped, tabled []moby.Service) *reading {
	return &reading{&dumpSocket{datagrams: dumpOf(dumped)}, asTable(tableOf(tabled))}
}

func TestListJoinsServicesWithTheirDestinations(t *testing.T) {
	all := someServices()
	// The file may have another order, but for two of one mark.
	other := []moby.Service{all[2], all[1], all[3], all[0]}
	got, _, err := listAll(context.Background(), readingOf(all, other))
	if err != nil || len(got) != len(all) {
		t.Fatalf("list() = %+v, %v", got, err)
	}
	for i, weight := range []int{3, 1, 0, 2} {
		want := listing{all[i], []moby.Destination{dest4("10.0.0.7:8080", weight)}}
		if !reflect.DeepEqual(got[i], want) {
			t.Errorf("service %d: %+v\nwant       %+v", i, got[i], want)
		}
	}
}

func TestListReadsAgainWhatChanges(t *testing.T) {
	all := someServices()
	edited := someServices()
	edited[0].SchedName = "rr"
	torn := map[string]func() *reading{
		"one is gone":            func() *reading { return readingOf(all, all[1:]) },
		"one has come":           func() *reading { return readingOf(all[:2], all) },
		"one is another":         func() *reading { return readingOf(all[:3], all[1:]) },
		"the file has one twice": func() *reading { return readingOf(all[:2], []moby.Service{all[0], all[0]}) },
		"the dump has one twice": func() *reading { return readingOf([]moby.Service{all[0], all[0]}, all[:2]) },
		"a mark comes three times": func() *reading {
			return readingOf([]moby.Service{all[2], all[3], all[2]}, []moby.Service{all[2], all[3], all[2]})
		},
		"the scheduler is another": func() *reading { return readingOf(all, edited) },
	}
	for name, tear := range torn {
		t.Run(name, func(t *testing.T) {
			got, attempts, err := listAll(context.Background(), tear(), tear(), readingOf(all, all))
			if err != nil || len(got) != len(all) || attempts != 3 {
				t.Errorf("list() = %d services, %v after %d attempts, want %d after 3", len(got), err, attempts, len(all))
			}
			_, attempts, err = listAll(context.Background(), tear(), tear(), tear(), tear(), tear(), readingOf(all, all))
			if !errors.Is(err, errChanging) || attempts != listAttempts {
				t.Errorf("list() = %v after %d attempts, want %v after %d", err, attempts, errChanging, listAttempts)
			}
		})
	}
}

func TestListOfNothing(t *testing.T) {
	if got, _, err := listAll(context.Background(), readingOf(nil, nil)); err != nil || len(got) != 0 {
		t.Errorf("list() = %v, %v", got, err)
	}
}

func TestListSaysWhatIsWrong(t *testing.T) {
	all := someServices()
	tests := []struct {
		name  string
		spoil func(*reading)
		want  string // "" if nothing is
	}{
		{"an interrupted read", func(r *reading) { r.dump.trouble = []error{unix.EINTR} }, ""},
		{"answers to somebody else", func(r *reading) {
			r.dump.datagrams = append([][]byte{ack(9, unix.EPERM), asListed(2, all[0])}, r.dump.datagrams...)
		}, ""},
		{"an overrun", func(r *reading) { r.dump.trouble = []error{unix.ENOBUFS} }, "dumping services: no buffer space"},
		{"a dump that breaks off", func(r *reading) { r.dump.datagrams = r.dump.datagrams[:2] }, "stops in the middle"},
		{"a dump that is refused", func(r *reading) { r.dump.datagrams = [][]byte{ack(1, unix.EPERM)} }, "not permitted"},
		{"a dump that ends in an error", func(r *reading) { r.dump.datagrams[2] = dumpDone(1, unix.ENOMEM) }, "cannot allocate memory"},
		{"half a message", func(r *reading) { r.dump.datagrams[0] = r.dump.datagrams[0][:100] }, "is said to have"},
		{"a service of no family", func(r *reading) { r.dump.datagrams[0] = asListed(1, moby.Service{}) }, "address family 0"},
		{"a file of something else", func(r *reading) { r.table = "x\n" }, "reading /proc/net/ip_vs: line 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := readingOf(all, all)
			tt.spoil(r)
			got, _, err := listAll(context.Background(), r)
			switch {
			case tt.want == "" && (err != nil || len(got) != len(all)):
				t.Errorf("list() = %d services, %v", len(got), err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("list() = %v, want %q", err, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := listAll(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("list() = %v after the end of its context", err)
	}
	dead := errors.New("no socket")
	w := lister(func() (wireSocket, error) { return nil, dead }, nil)
	if _, err := w.list(context.Background()); !errors.Is(err, dead) {
		t.Errorf("list() = %v, want %v", err, dead)
	}
}
