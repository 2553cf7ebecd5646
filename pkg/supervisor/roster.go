package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A roster says which services there are, and what the configuration says of them.
// Its lock is held for moments, and no actor takes it.
type roster struct {
	mu     sync.Mutex // guards what follows
	config *config.Config
	asked  uint64 // daemon-reloads that were asked for
	taken  uint64 // the one whose files config is
	units  map[string]*entry
	ending bool
}

func newRoster(c *config.Config) *roster { return &roster{config: c, units: map[string]*entry{}} }

// An entry is a service with all that is kept for it alone.
type entry struct {
	*service.Actor
	counts *metrics.Counters
	spec   *unit.Spec    // what the configuration says; nil: it no longer names it
	gone   chan struct{} // closed when it is off the roster
}

// list is what there is, by name.
func (r *roster) list() []entry {
	all := r.all()
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.Name(), b.Name()) })
	return all
}

// all is what there is, in any order.
func (r *roster) all() []entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]entry, 0, len(r.units))
	for _, e := range r.units {
		all = append(all, *e)
	}
	return all
}

// find is the service of that name; nil Actor: there is none.
func (r *roster) find(name string) entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.units[name]; e != nil {
		return *e
	}
	return entry{}
}

// configuration is what was loaded.
func (r *roster) configuration() *config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
}

// turn is the number of a daemon-reload. It is drawn before the files are read, so
// that of several at once the one that has read them last counts.
func (r *roster) turn() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending {
		return 0, &ipc.Error{Code: ipc.Ending, Message: "cannot load the configuration: supervisord is stopping"}
	}
	r.asked++
	return r.asked, nil
}

// accept makes c what counts, unless what was read later does already. It returns
// what counted before.
func (r *roster) accept(c *config.Config, turn uint64) (before *config.Config, latest bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.config
	if latest = turn > r.taken && !r.ending; latest {
		r.config, r.taken = c, turn
	}
	return before, latest
}

// enter makes the services what c names, if c is still what counts: each that has
// no entry gets one, and the others know what c says of them. One that has lost its
// entry since fresh was made of it waits for the next time.
func (r *roster) enter(c *config.Config, fresh map[string]unit.Service, add func(name string) *entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.config != c || r.ending {
		return false
	}
	named := map[string]*unit.Spec{}
	for _, spec := range c.Services {
		named[spec.Name] = spec
		if _, known := fresh[spec.Name]; known && r.units[spec.Name] == nil {
			r.units[spec.Name] = add(spec.Name)
		}
	}
	for name, e := range r.units {
		e.spec = named[name]
	}
	return true
}

// leave takes a service that is over off the roster.
func (r *roster) leave(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.units[name].gone)
	delete(r.units, name)
}

// end says that no configuration counts any more.
func (r *roster) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ending = true
}

// unknown are the services of c that have no actor, with what was known of them.
func (r *roster) unknown(c *config.Config, states map[string]unit.Service) map[string]unit.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := map[string]unit.Service{}
	for _, spec := range c.Services {
		if r.units[spec.Name] == nil {
			fresh[spec.Name] = states[spec.Name]
		}
	}
	return fresh
}

func (r *roster) names(service string) bool {
	e := r.find(service)
	return e.Actor != nil && e.spec != nil
}

// target is the service that a verb is for.
func (r *roster) target(verb, name string) (entry, error) {
	e := r.find(name)
	if e.Actor != nil {
		return e, nil
	}
	if a, ok := asideOf(r.configuration(), name); ok {
		return e, spoiled(verb, a)
	}
	return e, r.noSuchUnit(verb, name)
}

func (r *roster) isEnding() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ending
}

func (r *roster) hasSocket(name string) bool {
	return slices.ContainsFunc(r.configuration().Sockets, func(s *unit.Socket) bool { return s.Name == name })
}

func (r *roster) noSuchUnit(verb, name string) error {
	bare, isSocket := strings.CutSuffix(name, ".socket")
	if (isSocket || r.hasSocket(name)) && verb != "show" {
		return &ipc.Error{Code: ipc.NoSuchUnit, Message: fmt.Sprintf("cannot %s %s: it is a socket, not a service", verb, name), Hints: []string{"its services are named by: superctl status " + bare + ".socket"}}
	}
	services, sockets := r.unitNames()
	e := &ipc.Error{Code: ipc.NoSuchUnit, Message: fmt.Sprintf("cannot %s %s: no such service", verb, name)}
	known := services
	if isSocket {
		e.Message, known = fmt.Sprintf("cannot show %s: no such socket", name), sockets
	}
	e.Hints = suggestions(strings.TrimSuffix(name, ".service"), known)
	if !isSocket && r.hasSocket(name) {
		e.Hints = []string{"did you mean " + name + ".socket?"}
	}
	return e
}

// unitNames are those of all units; sockets end in .socket.
func (r *roster) unitNames() (services, sockets []string) {
	c := r.configuration()
	for _, e := range r.list() {
		services = append(services, e.Name())
	}
	for _, s := range c.Sockets {
		sockets = append(sockets, s.Name+".socket")
	}
	for _, a := range c.Aside {
		if a.Socket {
			sockets = append(sockets, a.String())
		} else {
			services = append(services, a.Name)
		}
	}
	slices.Sort(services)
	slices.Sort(sockets)
	return services, sockets
}

// suggestions are what could have been meant by a name.
func suggestions(name string, known []string) []string {
	const few = 12
	near := unit.Closest(name, known)
	switch {
	case near != "":
		return []string{"did you mean " + near + "?"}
	case len(known) > few:
		return []string{"to list all units: superctl status"}
	case len(known) > 0 && strings.HasSuffix(known[0], ".socket"):
		return []string{"known sockets: " + strings.Join(known, ", ")}
	case len(known) > 0:
		return []string{"known services: " + strings.Join(known, ", ")}
	}
	return []string{"to see what the configuration has: superctl verify"}
}
