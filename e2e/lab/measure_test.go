package lab

import (
	"testing"
	"time"
)

func TestCountWrites(t *testing.T) {
	const metrics = `# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="",resource="services",scope="resource",subresource="status",verb="PATCH",version="v1"} 12
apiserver_request_total{code="409",group="",resource="services",scope="resource",subresource="status",verb="PATCH",version="v1"} 3
apiserver_request_total{code="200",group="",resource="services",scope="resource",subresource="status",verb="PUT",version="v1"} 40
apiserver_request_total{code="200",group="",resource="services",scope="resource",subresource="",verb="PATCH",version="v1"} 50
apiserver_request_total{code="200",group="",resource="nodes",scope="resource",subresource="status",verb="PATCH",version="v1"} 60
`
	got, err := countWrites([]byte(metrics))
	if want := (Writes{Done: 12, Refused: 3}); err != nil || got != want {
		t.Errorf("countWrites() = %+v, %v; want %+v", got, err, want)
	}
}

func TestCPUTime(t *testing.T) {
	const stat = "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 5 0 99 1 2"
	if got, err := cpuTime(stat); err != nil || got != 1750*time.Millisecond {
		t.Errorf("cpuTime() = %s, %v; want 1.75s", got, err)
	}
	for _, short := range []string{"", "4711 (a) S 1", "4711 (a) S 1 4711 4711 0 -1 4194560 1 2 3 4 x 25 7"} {
		if got, err := cpuTime(short); err == nil {
			t.Errorf("cpuTime(%q) = %s, want an error", short, got)
		}
	}
}
