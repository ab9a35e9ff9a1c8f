package hetzner

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// A bucket of tokens, one for each request; one comes back each second, or
// what makes it full in an hour.
type bucket struct {
	size   int
	tokens float64
	at     time.Time
}

func newBucket(size int, now time.Time) bucket { return bucket{size, float64(size), now} }

// fill adds what has come back by now.
func (b *bucket) fill(now time.Time) {
	b.tokens = min(float64(b.size), b.tokens+now.Sub(b.at).Seconds()*b.perSecond())
	b.at = now
}

func (b *bucket) perSecond() float64 { return float64(b.size) / time.Hour.Seconds() }

// full is when no more tokens are missing.
func (b *bucket) full() time.Time {
	missing := (float64(b.size) - b.tokens) / b.perSecond()
	return b.at.Add(time.Duration(math.Ceil(missing)) * time.Second)
}

// spend takes a token, and tells the client how many are left.
func (c *Cloud) spend(header http.Header) error {
	b := &c.bucket
	b.fill(c.clock.Now())
	var err error
	if b.tokens < 1 {
		err = errorf(codeRateLimit, "limit of %d requests per hour reached", b.size)
	} else {
		b.tokens--
	}
	header.Set("RateLimit-Limit", strconv.Itoa(b.size))
	header.Set("RateLimit-Remaining", strconv.Itoa(int(b.tokens)))
	header.Set("RateLimit-Reset", strconv.FormatInt(b.full().Unix(), 10))
	return err
}

// SetRateLimit makes the project's budget perHour, of which remaining are left.
func (c *Cloud) SetRateLimit(perHour, remaining int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bucket = newBucket(perHour, c.clock.Now())
	c.bucket.tokens = float64(remaining)
}
