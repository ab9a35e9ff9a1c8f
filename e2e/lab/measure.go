package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// InGuest is whether this is User-Mode Linux, where starting a process takes
// long.
func InGuest() bool { return os.Getenv(envUML) != "" }

// A Count is how the addresses of one family of a pool stand, by its status.
type Count struct{ Total, Assigned, Free int64 }

// PoolCount returns what the status of an AddressPool says of its IPv4
// addresses.
func (l *Lab) PoolCount(name string) (Count, error) {
	pool, err := l.cp.API.dynamic.Resource(poolsResource).Get(l.ctx, name, metav1.GetOptions{})
	if err != nil {
		return Count{}, err
	}
	var c Count
	for field, to := range map[string]*int64{"total": &c.Total, "assigned": &c.Assigned, "free": &c.Free} {
		n, found, err := unstructured.NestedInt64(pool.Object, "status", "ipv4", field)
		if err == nil && !found {
			err = fmt.Errorf("AddressPool %s has no status.ipv4.%s", name, field)
		}
		if err != nil {
			return Count{}, err
		}
		*to = n
	}
	return c, nil
}

// PoolCondition returns a condition of an AddressPool that has been observed
// as it is now written.
func (l *Lab) PoolCondition(name, kind string) (metav1.Condition, error) {
	pool, err := l.cp.API.dynamic.Resource(poolsResource).Get(l.ctx, name, metav1.GetOptions{})
	if err != nil {
		return metav1.Condition{}, err
	}
	return conditionOf(pool, kind)
}

func convert(fields any, c *metav1.Condition) error {
	m, ok := fields.(map[string]any)
	if !ok {
		return fmt.Errorf("%v is no object", fields)
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(m, c)
}

// Writes counts requests to write the status of a Service.
type Writes struct {
	Done    int // those that the API server has accepted
	Refused int // for one, because they were for a version that is not the newest any more
}

// StatusWrites returns how often the status of a Service was patched since the
// control plane started, as the API server counts. Herald patches; what a story
// writes by hand is an update, and not counted.
//
// A request is counted a moment after everybody can see what it has done: two
// counts have to be equal.
func (l *Lab) StatusWrites() (w Writes) {
	l.t.Helper()
	const apart = 100 * time.Millisecond
	was := Writes{Done: -1}
	err := poll(l.ctx, settleWithin, func() (err error) {
		if w, err = l.cp.API.statusWrites(l.ctx); err == nil && w != was {
			was, err = w, fmt.Errorf("it goes on: %+v", w)
			<-time.After(apart)
		}
		return err
	})
	if err != nil {
		l.t.Fatalf("counting writes of Services' statuses: %v", err)
	}
	return w
}

func (a *API) statusWrites(ctx context.Context) (Writes, error) {
	metrics, err := a.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return Writes{}, err
	}
	return countWrites(metrics)
}

// countWrites reads the API server's metrics.
func countWrites(metrics []byte) (Writes, error) {
	var w Writes
	lines := bufio.NewScanner(bytes.NewReader(metrics))
	lines.Buffer(nil, 1<<20) // histograms have long lines
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "apiserver_request_total{") {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		if !has(line, "verb", "PATCH") || !has(line, "resource", "services") || !has(line, "subresource", "status") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return w, fmt.Errorf("reading %q: %w", line, err)
		}
		if has(line, "code", "200") {
			w.Done += int(n)
		} else {
			w.Refused += int(n)
		}
	}
	return w, lines.Err()
}

// has is whether a metric has a label with a value.
func has(metric, label, value string) bool {
	text := label + `="` + value + `"`
	return strings.Contains(metric, "{"+text) || strings.Contains(metric, ","+text)
}
