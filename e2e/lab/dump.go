package lab

import (
	"fmt"
	"strings"
)

// A dump shows this much of each thing, from its end.
const (
	dumpLog    = 6 << 10
	dumpKernel = 4 << 10
)

// dump writes what one needs to know after a failure into the test's log.
func (l *Lab) dump() {
	l.t.Helper()
	var b strings.Builder
	for _, d := range l.daemons() {
		fmt.Fprintf(&b, "\n--- log of %s (alive: %t)\n%s", d.name, d.Alive(), tail(d.LogFile(), dumpLog))
	}
	for _, n := range l.nodes {
		kernel, err := n.Kernel()
		if err != nil {
			kernel = err.Error()
		}
		fmt.Fprintf(&b, "\n--- kernel of %s\n%s\n", n.Name, last(kernel, dumpKernel))
	}
	services, err := l.Kubectl("get", "services,endpointslices,addresspools,bgppeers", "--output", "wide")
	fmt.Fprintf(&b, "\n--- cluster (%v)\n%s", err, last(services, dumpKernel))
	l.t.Logf("the lab at the end:%s", b.String())
}

func last(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return "…" + text[len(text)-limit:]
}
