package hetzner

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// An Entry is one request and how it was answered. No header is kept, and
// where a token stood is "[redacted]".
type Entry struct {
	At     time.Time
	Method string
	Path   string // with its query
	Body   string
	Hash   string // of the body as it came, SHA-256
	Status int
}

// Write reports whether the request asked for a change.
func (e Entry) Write() bool { return e.Method != http.MethodGet }

func (e Entry) String() string { return e.Method + " " + e.Path }

func (c *Cloud) record(r *http.Request, body []byte, status int) {
	sum := sha256.Sum256(body)
	c.journal = append(c.journal, Entry{
		At: c.now(), Method: r.Method, Path: c.redact(r.URL.RequestURI()), Body: c.redact(string(body)),
		Hash: hex.EncodeToString(sum[:]), Status: status,
	})
}

func (c *Cloud) redact(s string) string {
	for _, token := range []string{c.opts.Token, c.opts.ReadOnlyToken} {
		if token != "" {
			s = strings.ReplaceAll(s, token, "[redacted]")
		}
	}
	return s
}

// Journal returns every request since the cloud was made or the journal was
// cleared, in order.
func (c *Cloud) Journal() []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.journal)
}

// Writes returns those entries of the journal that asked for a change.
func (c *Cloud) Writes() []Entry {
	return slices.DeleteFunc(c.Journal(), func(e Entry) bool { return !e.Write() })
}

// ClearJournal forgets all requests so far.
func (c *Cloud) ClearJournal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.journal = nil
}
