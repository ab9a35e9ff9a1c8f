package cloudtest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/herald-lb/herald/cloud"
)

// FakeConsole is the console of a FakeLab.
func FakeConsole(lab *Lab) Console {
	f := lab.Driver.(*Fake)
	found := func(id string) (one cloud.Found) {
		for _, one = range f.All() {
			if one.ID == id {
				break
			}
		}
		return one
	}
	return Console{
		Meddle: f.meddle, Locations: []string{"north", "south"},
		Has: func(id string) (h Has) {
			spec := found(id).Raw.(cloud.LBSpec)
			h.Location = spec.Location
			for _, l := range spec.Listeners {
				h.Listeners = append(h.Listeners, Line(l))
			}
			for _, t := range spec.Targets {
				h.Targets = append(h.Targets, t.Node)
			}
			return h
		},
		Show: func(id string) string { return fmt.Sprintf("%+v", found(id)) },
		Rate: func() (milli int64) { return price.Milli * int64(len(f.All())) },
	}
}

func (f *Fake) meddle(rnd *rand.Rand, id string) (how string) {
	f.Edit(id, func(l *cloud.Found, s *cloud.LBSpec) {
		s.Listeners, s.Targets = slices.Clone(s.Listeners), slices.Clone(s.Targets)
		switch how = "nothing"; rnd.IntN(5) {
		case 0:
			s.Targets, how = nil, "no targets"
		case 1:
			s.Listeners, how = s.Listeners[:len(s.Listeners)/2], "fewer listeners"
		case 2:
			for i := range s.Listeners {
				s.Listeners[i].NodePort, how = 31999, "other nodePorts"
			}
		case 3:
			l.Protected, how = !l.Protected, "protection"
		case 4:
			how = "a twin"
		}
	})
	if how == "a twin" {
		f.mu.Lock()
		defer f.mu.Unlock()
		o := f.lbs[id].Owner
		f.add("twin", o, cloud.LBSpec{Owner: o})
	}
	return how
}
