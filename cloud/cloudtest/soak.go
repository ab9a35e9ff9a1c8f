package cloudtest

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// A Console is what a soak needs of a lab beside its calls: what people and the cloud
// itself do to load balancers, and what there is to see of them.
type Console struct {
	// Meddle changes a load balancer as people do, in one of many ways, and says in which.
	Meddle func(rnd *rand.Rand, id string) string
	// Listen adds a listener on port Guest that is nobody's; nil where listeners have no
	// marks.
	Listen func(id string)
	// Break has the cloud go wrong in a way of its own until Heal, and says in which. Nil
	// if it knows none.
	Break func(rnd *rand.Rand) string
	Heal  func()
	// Has is what a load balancer has, Show all that can be seen of it.
	Has  func(id string) Has
	Show func(id string) string
	// Rate is what all there is costs in a month, as the cloud itself counts it.
	Rate func() (milli int64)
	// Types and Locations are what Services may ask for.
	Types, Locations []string
	// Secret must be in no output.
	Secret string
}

// Has is what a load balancer has, in the terms of an LBSpec. Type and Location are
// empty where a driver does not know them.
type Has struct {
	Type, Location string
	Listeners      []string // by Line
	Targets        []string // nodes
}

// Guest is the port of listeners that people add.
const Guest = 9000

// Line is a listener as a soak compares it.
func Line(l cloud.Listener) string {
	h := l.Health
	if !h.HTTP {
		h.Path = ""
	}
	return fmt.Sprintf("%s to %d, PROXY %t, checked by HTTP %t at %d%s, %s %s %d", l.ID(), l.NodePort, l.Proxy != "", h.HTTP, h.Port, h.Path, h.Interval, h.Timeout, h.Retries)
}

// Seeds are those of a soak that have found something, or that are as good as others;
// HERALD_SEEDS is how many more to try.
func Seeds(seeds ...uint64) []uint64 {
	more, _ := strconv.Atoi(os.Getenv("HERALD_SEEDS")) // or else none
	for range more {
		seeds = append(seeds, rand.Uint64())
	}
	return seeds
}

// Soak does to a world whatever may happen, as a seed says: Services are made, edited
// and deleted, nodes come and go, calls fail in every way, the process dies, and people
// change things by hand. Then all is quiet, and after a few syncs the invariants hold.
// Only who comes first of those that work at once differs from run to run.
func Soak(t *testing.T, seed uint64, w *World, c Console) {
	s := &soak{World: w, Console: c, t: t, rnd: rand.New(rand.NewPCG(seed, 7)), out: &output{},
		services: map[string]*corev1.Service{}, old: map[string]*corev1.Service{}, uids: map[types.UID]*past{}, owners: map[string]types.UID{},
		kept: map[string]bool{}, before: map[string]Has{}, guests: map[string]bool{}, theirs: map[string]string{}, nodes: []int{0, 1, 2}}
	defer func() {
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(s.told, "\n"))
		}
	}()
	s.line = &line{rnd: rand.New(rand.NewPCG(seed, 8))}
	s.begin()
	for round := range 3 {
		s.tell("round %d", round)
		for range 25 {
			s.disturb()
		}
		s.quiet()
		s.invariants()
		if t.Failed() {
			return
		}
	}
}

// A soak is a world to which things happen, and what it knows of it.
type soak struct {
	*World
	Console
	t       *testing.T
	rnd     *rand.Rand
	line    *line
	out     *output
	told    []string
	metrics *prometheus.Registry

	services map[string]*corev1.Service // as the API server has them, by name
	old      map[string]*corev1.Service // as a cache that lags may still have them
	nodes    []int                      // that there are, by Lab.Node
	uids     map[types.UID]*past
	owners   map[string]types.UID // whose each load balancer was last
	kept     map[string]bool      // load balancers that are not to be deleted with their Service
	before   map[string]Has       // what each had when it was nobody's
	guests   map[string]bool      // load balancers with a listener that is nobody's
	theirs   map[string]string    // what nobody may touch, as it was
	hand     []string             // names of load balancers made by hand
}

// past is what a Service has ever said of what becomes of its load balancer.
type past struct{ release, retain bool }

// output is all that is said: logs, Events, errors, metrics.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(p)
}

func (s *soak) tell(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

// begin has others make load balancers before, by hand and from another cluster.
func (s *soak) begin() {
	s.Engine.Config.GC = cloud.GCConfig{Mode: cloud.GCDelete, Grace: metav1.Duration{Duration: time.Minute}, MaxPerRun: 3}
	other := &cloud.Engine{Driver: s.Lab.Driver, Config: Config(), Cluster: "99999999-8888-7777-6666-555555555555", Log: slog.New(slog.DiscardHandler)}
	svc := Service("s0", "uid-1", 80)
	if _, err := Until(s.t, func() (any, error) { return other.Ensure(s.t.Context(), svc, s.Nodes(2)) }); err != nil {
		s.t.Fatalf("the other cluster: Ensure() = %v", err)
	}
	for i := range 3 {
		s.hand = append(s.hand, fmt.Sprint("hand-", i))
		s.Lab.Add(s.hand[i])
	}
	for _, f := range s.All() {
		s.theirs[f.ID] = s.Show(f.ID)
	}
	s.Lab.Fault(s.line.fault)
	s.restart()
}

// restart makes an engine that remembers nothing, and whose words are kept.
func (s *soak) restart() {
	if s.Engine.Count != nil {
		s.gather()
	}
	s.Restart()
	s.metrics = prometheus.NewRegistry()
	s.Engine.Log, s.Engine.Count = slog.New(slog.NewTextHandler(s.out, nil)), cloud.NewMetrics(s.metrics, "soak")
}

// deeds are what may happen, and how often among all.
var deeds = []struct {
	often int
	do    func(*soak)
}{
	{20, (*soak).put},
	{5, (*soak).remove},
	{3, (*soak).forceAway},
	{4, (*soak).changeType},
	{6, (*soak).changeNodes},
	{12, func(s *soak) { s.sync(s.some()) }},
	{8, (*soak).syncAll},
	{4, (*soak).atOnce},
	{3, (*soak).lag},
	{5, (*soak).look},
	{8, (*soak).disrupt},
	{4, (*soak).calm},
	{3, (*soak).breakCloud},
	{3, (*soak).restart},
	{5, (*soak).kill},
	{8, (*soak).meddle},
	{6, func(s *soak) { s.wait(time.Duration(1+s.rnd.IntN(90)) * time.Second) }},
	{1, func(s *soak) { s.wait(time.Hour) }},
}

func (s *soak) disturb() {
	sum := 0
	for _, d := range deeds {
		sum += d.often
	}
	n := s.rnd.IntN(sum)
	for _, d := range deeds {
		if n -= d.often; n < 0 {
			d.do(s)
			break
		}
	}
	s.note()
}

// note remembers whose load balancers are, and which their owners may not delete.
func (s *soak) note() {
	for _, f := range s.All() {
		if f.Owner != (cloud.Owner{}) {
			s.owners[f.ID] = f.Owner.UID
			s.kept[f.ID] = s.kept[f.ID] || f.Adopted || f.Protected
		} else {
			s.before[f.ID] = s.Has(f.ID)
		}
	}
}

func (s *soak) wait(d time.Duration) {
	s.tell("%s go by", d)
	time.Sleep(d)
}

// names are those of the Services there are.
func (s *soak) names() []string { return slices.Sorted(maps.Keys(s.services)) }

// some is one of the Services; empty if there is none.
func (s *soak) some() string {
	names := s.names()
	if len(names) == 0 {
		return ""
	}
	return names[s.rnd.IntN(len(names))]
}

// store has the API server have a Service, and a cache that lags the one before.
func (s *soak) store(svc *corev1.Service) {
	if was := s.services[svc.Name]; was != nil {
		s.old[svc.Name] = was
	}
	s.services[svc.Name] = svc
	s.Put(svc)
	p := s.uids[svc.UID]
	if p == nil {
		p = &past{}
		s.uids[svc.UID] = p
	}
	policy := cloud.Policy(svc.Annotations[cloud.Prefix+"deletion-policy"])
	p.release, p.retain = p.release || policy == cloud.PolicyRelease, p.retain || policy == cloud.PolicyRetain
}

// edit stores a Service that was edited.
func (s *soak) edit(name string, edit func(*corev1.Service)) *corev1.Service {
	svc := s.services[name].DeepCopy()
	edit(svc)
	s.store(svc)
	return svc
}

// put makes a Service, or edits one.
func (s *soak) put() {
	name := fmt.Sprint("s", s.rnd.IntN(5))
	if s.services[name] == nil {
		s.store(Service(name, types.UID(fmt.Sprint("uid-", len(s.uids)+1)), 80))
	}
	if s.services[name].DeletionTimestamp != nil {
		return
	}
	s.randomSpec(name)
	if s.rnd.IntN(2) == 0 {
		s.sync(name)
	}
}

func (s *soak) remove() {
	name := s.some()
	if name == "" {
		return
	}
	s.tell("%s is deleted", name)
	s.edit(name, func(svc *corev1.Service) { now := metav1.Now(); svc.DeletionTimestamp = &now })
	s.sync(name)
}

// forceAway takes a Service from the API server with its finalizer.
func (s *soak) forceAway() {
	name := s.some()
	if name == "" {
		return
	}
	s.tell("%s is forced away", name)
	s.gone(name)
}

func (s *soak) gone(name string) {
	s.Remove(s.services[name])
	delete(s.services, name)
}

func (s *soak) changeType() {
	name := s.some()
	if name == "" || s.services[name].DeletionTimestamp != nil {
		return
	}
	svc := s.edit(name, func(svc *corev1.Service) {
		if svc.Spec.Type = corev1.ServiceTypeClusterIP; s.services[name].Spec.Type == svc.Spec.Type {
			svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		}
	})
	s.tell("%s is of type %s", name, svc.Spec.Type)
	s.sync(name)
}

func (s *soak) changeNodes() {
	s.nodes = s.rnd.Perm(6)[:s.rnd.IntN(7)]
	slices.Sort(s.nodes)
	s.tell("nodes %v", s.nodes)
}

// list is what a controller knows of nodes.
func (s *soak) list() (all []*corev1.Node) {
	for _, i := range s.nodes {
		n := s.Node(i + 1).DeepCopy()
		n.Labels = map[string]string{"pool": []string{"front", "back"}[i%2]}
		all = append(all, n)
	}
	return all
}

// hear keeps what an error says, and tells of it.
func (s *soak) hear(what string, err error) error {
	if err != nil {
		s.tell("%s: %s: %v", what, cloud.ClassOf(err), err)
		fmt.Fprintf(s.out, "%v\n%+v\n", err, err)
	}
	return err
}

func (s *soak) gather() {
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Errorf("gathering metrics: %v", err)
	}
	fmt.Fprintln(s.out, families)
}

// lag has the controllers act on what their cache still has of a Service.
func (s *soak) lag() {
	names := slices.Sorted(maps.Keys(s.old))
	if len(names) == 0 {
		return
	}
	svc := s.old[names[s.rnd.IntN(len(names))]]
	if now := s.services[svc.Name]; now != nil && now.UID == svc.UID && !slices.Contains(now.Finalizers, finalizer) {
		return // nobody acts before that is there
	}
	had := len(s.mine(svc))
	_, err := s.Ensure(s.t.Context(), svc, s.list())
	s.tell("%s as it was (%s): %v", svc.Name, svc.UID, err)
	if now := s.services[svc.Name]; len(s.mine(svc)) > had && (now == nil || now.UID != svc.UID || !wants(now)) {
		s.t.Errorf("A6: %v was made for Service %s (%s), which wants none any more", s.mine(svc), svc.Name, svc.UID)
	}
}

// meddle does what people do in a console.
func (s *soak) meddle() {
	owned := slices.DeleteFunc(s.All(), func(f cloud.Found) bool { return f.Owner.Cluster != Cluster })
	if len(owned) == 0 {
		return
	}
	id := owned[s.rnd.IntN(len(owned))].ID
	switch s.rnd.IntN(6) {
	case 0:
		s.tell("%s is deleted by hand", id)
		s.Drop(id)
		return
	case 1:
		if s.Listen == nil {
			return
		}
		s.tell("%s is given a listener by hand", id)
		s.Listen(id)
	default:
		s.tell("%s by hand: %s", id, s.Meddle(s.rnd, id))
	}
	s.guests[id] = slices.ContainsFunc(s.Has(id).Listeners, guest)
}

func guest(line string) bool { return strings.HasPrefix(line, fmt.Sprint("tcp/", Guest, " ")) }
