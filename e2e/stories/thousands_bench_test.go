package stories

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/e2e/lab"
)

// BenchmarkThousandsOfServices measures what is slow where there are many:
// thousands that wait when the controller starts, one more, a restart, a new
// pool, a label. Making them takes longest, and is not measured: the API
// server's allocator of cluster IPs is slower with each.
func BenchmarkThousandsOfServices(b *testing.B) {
	services := number(b, "HERALD_BENCH_SERVICES", 5000)
	l := lab.Start(b, lab.Options{NoNodes: true, Idle: true})
	l.Apply(pool("lan", bigPool))
	r := keepRegister(b, l)
	for b.Loop() {
		b.StopTimer()
		began := time.Now()
		if _, err := createAll(l, "web", services); err != nil {
			b.Fatal(err)
		}
		b.Logf("%d services made within %s", services, tenth(time.Since(began)))
		b.StartTimer()
		m := &many{b: b, l: l, r: r, services: services}
		m.waiting()
		m.oneMore()
		m.restart()
		m.newPool()
		m.newLabel()
	}
	r.check(b)
}

// many is a cluster with thousands of Services.
type many struct {
	b        *testing.B
	l        *lab.Lab
	r        *register
	services int
}

func (m *many) waiting() {
	s := begin(m.l)
	m.l.Controller.Start()
	m.l.Within(5*time.Minute, "all have an address", m.r.allAssigned(m.services))
	took := time.Since(s.began)
	m.b.ReportMetric(took.Seconds(), "waiting-s")
	s.end(m.b, "waiting", "all assigned after "+tenth(took).String(), m.services)
}

// create creates a Service.
func (m *many) create(s *corev1.Service) types.UID {
	m.b.Helper()
	made, err := create(m.l, s)
	if err != nil {
		m.b.Fatal(err)
	}
	return made.UID
}

// wait waits until a Service has an address, and returns how long that was
// since began.
func (m *many) wait(uid types.UID, began time.Time) time.Duration {
	m.b.Helper()
	times, _ := latencies(m.b, m.l, m.r, map[types.UID]time.Time{uid: began})
	return times[0]
}

func (m *many) oneMore() {
	const more = 50
	s := begin(m.l)
	asked, made := map[types.UID]time.Time{}, map[types.UID]time.Time{}
	for i := range more {
		began := time.Now()
		one := m.create(plain(fmt.Sprintf("more-%d", i)))
		asked[one], made[one] = began, time.Now()
		m.wait(one, began)
	}
	s.end(m.b, "one-more", both(m.b, "one-more", m.l, m.r, asked, made), more)
}

func (m *many) restart() {
	m.settle()
	m.l.Controller.Stop()
	s := begin(m.l)
	m.l.Controller.Start()
	took := m.wait(m.create(plain("after-restart")), s.began)
	m.b.ReportMetric(took.Seconds(), "restart-s")
	s.end(m.b, "restart", "first new address after "+tenth(took).String(), 1)
}

func (m *many) newPool() {
	waiting := m.waitingFor("new")
	s := begin(m.l)
	m.l.Apply(pool("new", "198.51.100.0/24"))
	took := m.wait(waiting, s.began)
	m.b.ReportMetric(took.Seconds(), "pool-s")
	s.end(m.b, "pool", "first address from it after "+tenth(took).String(), 1)
}

func (m *many) newLabel() {
	m.l.Apply(poolSpec("team", "addresses: [203.0.113.0/24], assign: OnRequest, namespaceSelector: {matchLabels: {team: shop}}"))
	waiting := m.waitingFor("team")
	s := begin(m.l)
	label(m.b, m.l, "team", "shop")
	took := m.wait(waiting, s.began)
	m.b.ReportMetric(took.Seconds(), "label-s")
	s.end(m.b, "label", "the one it concerns has its address after "+tenth(took).String(), 1)
}

// waitingFor creates a Service that asks for a pool, and waits until it has
// been told why it has no address.
func (m *many) waitingFor(pool string) types.UID {
	m.b.Helper()
	s := plain("waits-for-" + pool)
	s.Annotations = map[string]string{"herald-lb.io/pool": pool}
	uid := m.create(s)
	m.l.Eventually(s.Name+" is told why it waits", func() error {
		if c := m.l.Condition(s.Name); c.Type == "" {
			return errors.New("it is not")
		}
		return nil
	})
	m.settle()
	return uid
}

// settle waits until the status of the pool, too, has been written.
func (m *many) settle() {
	m.b.Helper()
	m.l.Eventually("the pool counts them all", func() error {
		have, _ := m.r.assigned()
		got, err := m.l.PoolCount("lan")
		if err == nil && got.Assigned < int64(have)-1 { // one may be from another pool
			err = fmt.Errorf("it counts %d of %d", got.Assigned, have)
		}
		return err
	})
}
