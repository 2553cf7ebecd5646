package doors

import (
	"reflect"
	"slices"
	"strings"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Who asks changes nothing here.

// Pending: the configuration defines a socket unit otherwise than those who use it,
// so it waits for the next of them to be started.
func (d *Doors) Pending(name string) bool {
	d.mu.Lock()
	configured, keep := d.demand.configured[name], d.demand.of(name).keep
	d.mu.Unlock()
	return configured != nil && len(keep) > 0 && !reflect.DeepEqual(configured, keep[len(keep)-1])
}

// Check has it looked, in the background, what the processes of a service did to
// its sockets, and mended what can be. Most of that tells nobody by itself.
func (d *Doors) Check(service string) {
	for _, name := range d.Of(service) {
		go d.table.Audit(name)
	}
}

// Holders are the processes, by their services, that were given the socket with
// this cookie and have not ended.
func (d *Doors) Holders(name string, cookie uint64) map[string][]unit.Invocation {
	all := map[string][]unit.Invocation{}
	d.look(name, func(door *door) {
		for who, h := range door.has {
			if slices.Contains(h.cookies, cookie) {
				all[who.Service] = append(all[who.Service], who.ID)
			}
		}
	})
	return all
}

// Err is why a socket unit is not what it should be, or nil.
func (d *Doors) Err(name string) (err error) {
	d.look(name, func(door *door) { err = door.err })
	return err
}

// Of lists the sockets that a service needs now, in the order in which it has them.
func (d *Doors) Of(service string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.demand.each[service])
}

// Parts are the names under which the sockets of a unit are kept: its own, or one
// for each instance.
func (d *Doors) Parts(unitName string) (parts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.each {
		if !strings.HasPrefix(name, unitName) {
			continue
		}
		if of, _ := unit.SplitSocket(name); of == unitName {
			parts = append(parts, name)
		}
	}
	slices.SortFunc(parts, byInstance)
	return parts
}

func byInstance(a, b string) int {
	_, i := unit.SplitSocket(a)
	_, k := unit.SplitSocket(b)
	return i - k
}
