package chaos

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A shelf lists nine things, three on a page, and counts what is put there.
type shelf struct{ puts atomic.Int64 }

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodGet {
		s.puts.Add(1)
		fmt.Fprint(w, `{"ok":true}`)
		return
	}
	page := 1
	if text := r.URL.Query().Get("page"); text != "" {
		page, _ = strconv.Atoi(text)
	}
	next := strconv.Itoa(page + 1)
	if page == 3 {
		next = "null"
	}
	fmt.Fprintf(w, `{"meta":{"pagination":{"last_page":3,"next_page":%s,"total_entries":9}},"things":[%d,%d,%d]}`, next, 3*page-2, 3*page-1, 3*page)
}

// start has a proxy before a shelf, both real servers.
func start(t *testing.T) (*Proxy, *shelf, func(method, path string) (int, string, error)) {
	t.Helper()
	s := &shelf{}
	upstream := httptest.NewServer(s)
	t.Cleanup(upstream.Close)
	to, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := New(Upstream(to))
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	return p, s, func(method, path string) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, front.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := front.Client().Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
}

const second = `{"meta":{"pagination":{"last_page":3,"next_page":3,"total_entries":9}},"things":[4,5,6]}`

func TestEffects(t *testing.T) {
	tests := []struct {
		name   string
		do     Effect
		method string
		status int // 0 is no answer
		body   string
		puts   int
	}{
		{"delay", Delay(time.Millisecond), "GET", 200, second, 0},
		{"drop a read", Drop, "GET", 0, "", 0},
		{"drop a write: nothing happens", Drop, "POST", 0, "", 0},
		{"drop the answer: it happens", DropAnswer, "POST", 0, "", 1},
		{"conflict", Answer(409, "conflict"), "POST", 409, `{"error":{"code":"conflict","details":null,"message":"chaos"}}` + "\n", 0},
		{"locked", Answer(423, "locked"), "POST", 423, `{"error":{"code":"locked","details":null,"message":"chaos"}}` + "\n", 0},
		{"too many", TooManyRequests(time.Minute), "GET", 429, `{"error":{"code":"rate_limit_exceeded","details":null,"message":"chaos"}}` + "\n", 0},
		{"internal error", GatewayError(500), "GET", 500, "<html><body>Internal Server Error</body></html>\n", 0},
		{"bad gateway", GatewayError(502), "GET", 502, "<html><body>Bad Gateway</body></html>\n", 0},
		{"unavailable", GatewayError(503), "GET", 503, "<html><body>Service Unavailable</body></html>\n", 0},
		{"timeout", GatewayError(504), "GET", 504, "<html><body>Gateway Timeout</body></html>\n", 0},
		{"truncated", Truncate, "GET", 200, second[:len(second)/2], 0},
		{"slow", SlowBody(5, time.Millisecond), "GET", 200, second, 0},
		{"empty list", EmptyList, "GET", 200, `{"meta":{"pagination":{"last_page":1,"next_page":null,"total_entries":0}},"things":[]}`, 0},
		{"half a list", HalfList, "GET", 200, `{"meta":{"pagination":{"last_page":3,"next_page":null,"total_entries":9}},"things":[4]}`, 0},
		{"a page again", RepeatPage, "GET", 200, `{"meta":{"pagination":{"last_page":3,"next_page":3,"total_entries":9}},"things":[1,2,3]}`, 0},
		{"what is no list stays as it is", EmptyList, "POST", 200, `{"ok":true}`, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, s, do := start(t)
			p.Add(Rule{Do: tt.do})
			status, body, err := do(tt.method, "/things?page=2")
			if status != tt.status || body != tt.body || (err != nil) != (tt.status == 0) {
				t.Errorf("got %d %s %v\nwant %d %s", status, body, err, tt.status, tt.body)
			}
			if got := s.puts.Load(); got != int64(tt.puts) {
				t.Errorf("%d writes got through, want %d", got, tt.puts)
			}
			if p.Reads()+p.Writes() != 1 {
				t.Errorf("%d reads and %d writes: somebody tried again", p.Reads(), p.Writes())
			}
		})
	}
}

func TestRules(t *testing.T) {
	tests := []struct {
		name string
		rule Rule
		want string // for a GET of /a, /b, /a, /a and a PUT of /a: x is spoiled
	}{
		{"any", Rule{}, "xxxxx"},
		{"a method", Rule{Method: "PUT"}, "....x"},
		{"a path", Rule{Path: regexp.MustCompile("^/b$")}, ".x..."},
		{"the second", Rule{Skip: 1, Times: 1}, ".x..."},
		{"from the third", Rule{Skip: 2}, "..xxx"},
		{"the second that matches", Rule{Method: "GET", Path: regexp.MustCompile("a"), Skip: 1, Times: 1}, "..x.."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _, do := start(t)
			tt.rule.Do = Answer(503, "unavailable")
			p.Add(tt.rule)
			var got strings.Builder
			for _, call := range []string{"GET /a", "GET /b", "GET /a", "GET /a", "PUT /a"} {
				method, path, _ := strings.Cut(call, " ")
				if status, _, _ := do(method, path); status == 503 {
					got.WriteByte('x')
				} else {
					got.WriteByte('.')
				}
			}
			if got.String() != tt.want {
				t.Errorf("spoiled %s, want %s", &got, tt.want)
			}
			if p.Reads() != 4 || p.Writes() != 1 {
				t.Errorf("%d reads, %d writes", p.Reads(), p.Writes())
			}
			if p.Calm(); p.Reads() != 0 {
				t.Error("it counts on")
			}
			if status, _, err := do("GET", "/a"); status != 200 {
				t.Errorf("after Calm: %d, %v", status, err)
			}
		})
	}
}

func TestCrash(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   func(*Proxy, func())
		dies string // which of the calls GET, PUT, GET, PUT
		puts int    // that got through until then
	}{
		{"before the second write", func(p *Proxy, f func()) { p.CrashAt(2, Before, f) }, "4", 1},
		{"after the second write", func(p *Proxy, f func()) { p.CrashAt(2, After, f) }, "4", 2},
		{"before the second call", func(p *Proxy, f func()) { p.CrashAtCall(2, Before, f) }, "2", 0},
		{"after the third call", func(p *Proxy, f func()) { p.CrashAtCall(3, After, f) }, "3", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, s, do := start(t)
			var puts atomic.Int64 // when it died
			tt.at(p, func() { puts.Store(s.puts.Load()) })
			died := ""
			for i, method := range []string{"GET", "PUT", "GET", "PUT"} {
				if _, _, err := do(method, "/things"); errors.Is(err, io.EOF) {
					died += strconv.Itoa(i + 1)
				}
			}
			if died != tt.dies || puts.Load() != int64(tt.puts) {
				t.Errorf("died at %q after %d writes, want %q after %d", died, puts.Load(), tt.dies, tt.puts)
			}
		})
	}
}
