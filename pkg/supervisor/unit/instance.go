package unit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Placeholder stands for the number of an instance, counted from 0, in the values of
// a configuration.
const Placeholder = "{instance}"

func numbered(s string, i int) string { return strings.ReplaceAll(s, Placeholder, strconv.Itoa(i)) }

// Of returns what instance i runs. The executable is the same for all instances.
func (p *Program) Of(i int) *Program {
	q := *p
	q.Dir = numbered(p.Dir, i)
	q.Argv, q.Environment, q.EnvironmentFiles = slices.Clone(p.Argv), slices.Clone(p.Environment), slices.Clone(p.EnvironmentFiles)
	for _, list := range [][]string{q.Argv[min(1, len(q.Argv)):], q.Environment, q.EnvironmentFiles} {
		for k := range list {
			list[k] = numbered(list[k], i)
		}
	}
	return &q
}

// PerInstance reports whether each instance has sockets of its own.
func (s *Socket) PerInstance() bool { return slices.ContainsFunc(s.Listen, Address.PerInstance) }

// PerInstance reports whether the address differs from instance to instance.
func (a Address) PerInstance() bool {
	return a.PortOf != "" || strings.Contains(a.Path, Placeholder)
}

// Of returns the socket unit of instance i, under a name that no configuration can
// use. If all instances share the unit, Of returns s itself. The error is for a port
// out of range.
func (s *Socket) Of(i int) (*Socket, error) {
	if !s.PerInstance() {
		return s, nil
	}
	c := *s
	c.Name, c.Listen = fmt.Sprint(s.Name, ofInstance, i), nil
	for _, a := range s.Listen {
		b, err := a.Of(i)
		if err != nil {
			return nil, err
		}
		c.Listen = append(c.Listen, b)
	}
	return &c, nil
}

// ofInstance is between a socket unit and an instance; no name of a unit has it.
const ofInstance = "@"

// SplitSocket splits a name that [Socket.Of] made into the unit and the instance that
// owns its sockets. The instance is -1 if all instances share them.
func SplitSocket(name string) (unit string, instance int) {
	unit, number, own := strings.Cut(name, ofInstance)
	if i, err := strconv.Atoi(number); own && err == nil {
		return unit, i
	}
	return unit, -1
}

// Of returns the address of instance i.
func (a Address) Of(i int) (Address, error) {
	a.Path = numbered(a.Path, i)
	if a.PortOf == "" {
		return a, nil
	}
	port, err := strconv.ParseUint(numbered(a.PortOf, i), 10, 16)
	if err != nil {
		return a, fmt.Errorf("%s is no port for instance %d: they go up to 65535", numbered(a.PortOf, i), i)
	}
	a.Port, a.PortOf = int(port), ""
	return a, nil
}
