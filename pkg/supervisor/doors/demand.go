package doors

import (
	"maps"
	"reflect"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A demand is what services, and the configuration, want of sockets.
type demand struct {
	wanted     map[string]wishes       // by socket unit
	each       map[string][]string     // by service: the socket units that it needs, in its order
	configured map[string]*unit.Socket // by name, as of an instance
}

// wishes are what services want of one socket unit, those of each in its order.
type wishes map[string][]unit.Door

// A want is what all together want of a socket unit.
type want struct {
	keep []*unit.Socket // its definitions in use, the newest last
	open bool
}

func newDemand() demand {
	return demand{wanted: map[string]wishes{}, each: map[string][]string{}, configured: map[string]*unit.Socket{}}
}

// configure notes which sockets there are, and returns the names of what that changes,
// and of what is not right as it is.
func (m *demand) configure(sockets []*unit.Socket, wrong func(name string) bool) (changed []string) {
	before, now := m.configured, map[string]*unit.Socket{}
	for _, s := range sockets {
		now[s.Name] = s
	}
	m.configured = now
	all := maps.Clone(before)
	maps.Copy(all, now)
	for name := range all {
		if !reflect.DeepEqual(before[name], now[name]) || wrong(name) {
			changed = append(changed, name)
		}
	}
	return changed
}

// set notes what a service wants, and returns the names of what that changes.
func (m *demand) set(service string, wanted []unit.Door) (changed []string) {
	names, now := byName(wanted)
	for _, name := range m.each[service] {
		if now[name] == nil {
			changed = append(changed, name)
			m.put(service, name, nil)
		}
	}
	for _, name := range names {
		if !reflect.DeepEqual(m.wanted[name][service], now[name]) {
			changed = append(changed, name)
			m.put(service, name, now[name])
		}
	}
	if m.each[service] = names; len(names) == 0 {
		delete(m.each, service)
	}
	return changed
}

// byName are doors by the names of their units, and those names in order.
func byName(doors []unit.Door) (names []string, all map[string][]unit.Door) {
	all = map[string][]unit.Door{}
	for _, w := range doors {
		name := w.Socket.Name
		if all[name] == nil {
			names = append(names, name)
		}
		all[name] = append(all[name], w)
	}
	return names, all
}

func (m *demand) put(service, name string, doors []unit.Door) {
	w := m.wanted[name]
	switch {
	case len(doors) > 0 && w == nil:
		m.wanted[name] = wishes{service: doors}
	case len(doors) > 0:
		w[service] = doors
	default:
		if delete(w, service); len(w) == 0 {
			delete(m.wanted, name)
		}
	}
}

// of is what is wanted of a socket unit now.
func (m *demand) of(name string) (w want) {
	add := func(s *unit.Socket) {
		if !slices.ContainsFunc(w.keep, func(k *unit.Socket) bool { return reflect.DeepEqual(k, s) }) {
			w.keep = append(w.keep, s)
		}
	}
	for _, service := range slices.Sorted(maps.Keys(m.wanted[name])) {
		for _, x := range slices.Backward(m.wanted[name][service]) {
			add(x.Socket)
			w.open = w.open || x.Open
		}
	}
	if s := m.configured[name]; s != nil && len(w.keep) == 0 {
		add(s)
	}
	return w
}

// needs: the service has that unit among those that it needs.
func (m *demand) needs(service, name string) bool { return m.wanted[name][service] != nil }

// names: anybody wants it, if only the configuration.
func (m *demand) names(name string) bool { return m.configured[name] != nil || m.wanted[name] != nil }
