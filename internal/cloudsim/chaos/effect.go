package chaos

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// Delay forwards a call after d, unless the client gives up before.
func Delay(d time.Duration) Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if wait(r, d) {
			next.ServeHTTP(w, r)
		}
	}
}

// wait reports whether the client is still there after d.
func wait(r *http.Request, d time.Duration) bool {
	select {
	case <-r.Context().Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Drop loses a call on its way there.
func Drop(http.ResponseWriter, *http.Request, http.Handler) { hangUp() }

// DropAnswer loses what comes back: the call has done its work.
func DropAnswer(_ http.ResponseWriter, r *http.Request, next http.Handler) {
	forward(r, next)
	hangUp()
}

// Answer does not forward a call, but answers with an error of that status and
// code.
func Answer(status int, code string) Effect {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{ // fails if the client is gone
			"error": map[string]any{"code": code, "message": "chaos", "details": nil},
		})
	}
}

// TooManyRequests is Answer with 429, and when to come again.
func TooManyRequests(after time.Duration) Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
		Answer(http.StatusTooManyRequests, "rate_limit_exceeded")(w, r, next)
	}
}

// GatewayError is what a load balancer before an API says, which is no JSON.
func GatewayError(status int) Effect {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, "<html><body>"+http.StatusText(status)+"</body></html>", status)
	}
}

// Truncate forwards a call, and sends half of the answer's body as if that
// were all.
func Truncate(w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := forward(r, next)
	pass(w, rec, rec.Body.Bytes()[:rec.Body.Len()/2])
}

// SlowBody sends the answer's body in pieces with pauses between them.
func SlowBody(pieces int, pause time.Duration) Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := forward(r, next)
		body := rec.Body.Bytes()
		pass(w, rec, nil)
		for i := range pieces {
			if !wait(r, pause) {
				return
			}
			_, _ = w.Write(body[i*len(body)/pieces : (i+1)*len(body)/pieces]) // fails if the client is gone
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// EmptyList answers that there is nothing, and that that is all.
func EmptyList(w http.ResponseWriter, r *http.Request, next http.Handler) {
	edit(w, forward(r, next), func(l *listing) {
		l.items = []any{}
		l.pagination(map[string]any{"next_page": nil, "last_page": 1, "total_entries": 0})
	})
}

// HalfList leaves out half of a page, and all pages after it.
func HalfList(w http.ResponseWriter, r *http.Request, next http.Handler) {
	edit(w, forward(r, next), func(l *listing) {
		l.items = l.items[:len(l.items)/2]
		l.pagination(map[string]any{"next_page": nil})
	})
}

// RepeatPage answers with the things that are on the page before, as happens
// if something is created meanwhile. The first page is left alone.
func RepeatPage(w http.ResponseWriter, r *http.Request, next http.Handler) {
	number, _ := strconv.Atoi(r.URL.Query().Get("page")) // absent is the first
	if number < 2 {
		next.ServeHTTP(w, r)
		return
	}
	before := r.Clone(r.Context())
	q := before.URL.Query()
	q.Set("page", strconv.Itoa(number-1))
	before.URL.RawQuery = q.Encode()
	again := read(forward(before, next).Body.Bytes())
	edit(w, forward(r, next), func(l *listing) {
		if again != nil {
			l.items = again.items
		}
	})
}

// A listing is an answer with one list in it.
type listing struct {
	all   map[string]any
	field string
	items []any
}

// read returns nil if body is no listing.
func read(body []byte) *listing {
	var all map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&all) != nil {
		return nil
	}
	for field, value := range all {
		if items, ok := value.([]any); ok {
			return &listing{all, field, items}
		}
	}
	return nil
}

// pagination changes what the answer says of other pages, if it says anything.
func (l *listing) pagination(set map[string]any) {
	meta, _ := l.all["meta"].(map[string]any)
	if p, ok := meta["pagination"].(map[string]any); ok {
		maps.Copy(p, set)
	}
}

// edit passes an answer on as change leaves it; one that is no list as it is.
func edit(w http.ResponseWriter, rec *httptest.ResponseRecorder, change func(*listing)) {
	body := rec.Body.Bytes()
	if l := read(body); l != nil {
		change(l)
		l.all[l.field] = l.items
		body, _ = json.Marshal(l.all) // what was just read can be written
	}
	pass(w, rec, body)
}
