package memory

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// format is another one whenever the shape of what is written has changed: what
// another release has written is passed over.
const format = 1

// fileName is the name of the file in its directory.
const fileName = "cluster.json.gz"

// unfinished ends the name of what is being written.
const unfinished = ".new"

// A head is the first line of the file.
type head struct {
	Format   int
	Node     string // whose speaker wrote it
	Read     time.Time
	Config   config.Config
	Nodes    []snapshot.Node
	Speakers []snapshot.Speaker
	Lost     []snapshot.Speaker
	Services int // how many lines follow
}

// write replaces the file in dir, whole or not at all. What a write that was
// cut off has left is overwritten by the next.
func write(dir, node string, s snapshot.Snapshot) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, fileName)
	f, err := os.OpenFile(path+unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(encode(f, node, s), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

func encode(w io.Writer, node string, s snapshot.Snapshot) error {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(zip)
	err = lines.Encode(head{
		Format: format, Node: node, Read: s.Now, Config: s.Config, Nodes: s.Nodes,
		Speakers: s.Speakers, Lost: s.Lost, Services: len(s.Services),
	})
	for i := 0; err == nil && i < len(s.Services); i++ {
		err = lines.Encode(s.Services[i])
	}
	return errors.Join(err, zip.Close())
}

// Load returns what the speaker of node last wrote to dir. Its error is
// [fs.ErrNotExist] if there is nothing.
func Load(dir, node string) (s snapshot.Snapshot, err error) {
	path := filepath.Join(dir, fileName)
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	if s, err = decode(bufio.NewReader(f), node); err != nil {
		return snapshot.Snapshot{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return s, nil
}

func decode(r io.Reader, node string) (s snapshot.Snapshot, err error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return s, err
	}
	lines := json.NewDecoder(zip)
	var was struct{ Format int }
	var first json.RawMessage
	if err := errors.Join(lines.Decode(&first), json.Unmarshal(first, &was)); err != nil {
		return s, err
	}
	if was.Format != format {
		return s, fmt.Errorf("another release wrote it: format %d, not %d", was.Format, format)
	}
	var h head
	if err := json.Unmarshal(first, &h); err != nil {
		return s, err
	}
	if h.Node != node {
		return s, fmt.Errorf("it is of node %q, not %q", h.Node, node)
	}
	s = snapshot.Snapshot{Now: h.Read, Recalled: h.Read, Config: h.Config, Nodes: h.Nodes, Speakers: h.Speakers, Lost: h.Lost}
	for range h.Services {
		var svc snapshot.Service
		if err := lines.Decode(&svc); err != nil {
			return s, err
		}
		svc.Revision = 0 // it counts readings of another process
		s.Services = append(s.Services, svc)
	}
	if _, err := io.Copy(io.Discard, zip); err != nil { // up to the checksum
		return s, err
	}
	return s, nil
}

// Remove removes what was written to dir, if anything was.
func Remove(dir string) error {
	if dir == "" {
		return nil
	}
	var errs []error
	for _, name := range []string{fileName, fileName + unfinished} {
		if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
