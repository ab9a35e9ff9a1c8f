package chaos

import "net/http"

// When says on which side of a call something happens.
type When int

// A call that is lost before it is forwarded changes nothing; after, it has
// changed what it should, and nobody was told.
const (
	Before When = iota + 1
	After
)

// A crash is the death of the client at one call.
type crash struct {
	n, seen int
	when    When
	all     bool
	hook    func()
}

// CrashAt calls hook at the nth write from now on, the first being 1, and the
// client never gets its answer.
func (p *Proxy) CrashAt(n int, when When, hook func()) {
	p.addCrash(&crash{n: n, when: when, hook: hook})
}

// CrashAtCall is CrashAt for the nth call of any kind.
func (p *Proxy) CrashAtCall(n int, when When, hook func()) {
	p.addCrash(&crash{n: n, when: when, all: true, hook: hook})
}

func (p *Proxy) addCrash(c *crash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crashes = append(p.crashes, c)
}

func (c *crash) due(r *http.Request) bool {
	if c.all || isWrite(r) {
		c.seen++
		return c.seen == c.n
	}
	return false
}

func (c *crash) effect(_ http.ResponseWriter, r *http.Request, next http.Handler) {
	if c.when == After {
		forward(r, next)
	}
	c.hook()
	hangUp()
}

// hangUp ends the connection without an answer.
func hangUp() { panic(http.ErrAbortHandler) }
