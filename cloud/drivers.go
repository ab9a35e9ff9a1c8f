package cloud

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Env is what a driver is given beside its configuration.
type Env struct {
	// HTTP makes all calls to the API. It keeps the budget, counts, and turns what the
	// transport knows to be wrong into errors of this package. It never repeats a call;
	// nor must a driver's SDK.
	HTTP *http.Client
	Log  *slog.Logger
}

// Open makes a driver. It calls nobody.
type Open func(Config, Env) (Driver, error)

var drivers = struct {
	sync.Mutex
	open map[string]Open
}{open: map[string]Open{}}

// Register makes a driver known under a name, from an init function.
func Register(name string, open Open) {
	drivers.Lock()
	defer drivers.Unlock()
	drivers.open[name] = open
}

// OpenDriver makes the driver of a configuration.
func OpenDriver(c Config, env Env) (Driver, error) {
	drivers.Lock()
	defer drivers.Unlock()
	open, ok := drivers.open[c.Provider]
	if !ok {
		return nil, fmt.Errorf("the cloud's configuration: provider %q: use one of %s", c.Provider, strings.Join(slices.Sorted(maps.Keys(drivers.open)), ", "))
	}
	return open(c, env)
}
