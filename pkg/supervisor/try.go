package supervisor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/doors"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"github.com/supervisord-go/supervisord/pkg/supervisor/words"
)

// A dialFunc connects to exactly one process of a steered unit, through the unit's real
// address. It may wait for as long as the kernel does. The descriptor is the caller's.
type dialFunc func(name, address string, holder unit.Invocation) (fd int, err error)

const (
	tryTime = 5 * time.Second // from the connection to the answer
	tryMost = 4               // at once
)

// A trier sends single requests to single processes. What it waits for, it waits for in
// goroutines of its own: no actor and no lock is concerned.
type trier struct {
	table *socket.Table
	doors *doors.Doors
	dial  dialFunc
	busy  chan struct{} // has room for those that may run at once
}

func newTrier(t *socket.Table, d *doors.Doors, dial dialFunc) *trier {
	return &trier{table: t, doors: d, dial: dial, busy: make(chan struct{}, tryMost)}
}

// Try sends one request to one process, whether or not it gets new connections. See
// [ipc.Supervisor].
func (m *Manager) Try(r ipc.TryRequest, by ipc.Caller) (ipc.Tried, error) {
	e, err := m.target("try", r.Unit)
	if err != nil {
		return ipc.Tried{}, err
	}
	p, err := chosen(e.View(), r)
	if err != nil {
		return ipc.Tried{}, err
	}
	s, err := m.trier.spot(e, p, r)
	if err != nil {
		return ipc.Tried{}, err
	}
	m.log.Info().Str("unit", r.Unit).Uint32("uid", by.UID).Int("pid", p.PID).Str("address", s.address).Msg("asked to try")
	return m.trier.try(r, p, s)
}

// chosen is the process that a request means.
func chosen(v *service.View, r ipc.TryRequest) (located, error) {
	roles := []unit.Role{unit.RoleNext, unit.RoleMain}
	if r.Whom != "" {
		roles = []unit.Role{unit.Role(r.Whom)}
	}
	for _, role := range roles {
		for p := range locate(v) {
			if p.role == role && (r.Instance == nil || p.instance == *r.Instance) {
				return p, hasPID(r, p)
			}
		}
	}
	return located{}, nobody(v, r)
}

// hasPID is the error that p is not yet a process.
func hasPID(r ipc.TryRequest, p located) error {
	if p.PID != 0 {
		return nil
	}
	return &ipc.Error{Code: ipc.NotActive, Message: fmt.Sprintf("cannot try %s: its process is being set up", r.Unit)}
}

func nobody(v *service.View, r ipc.TryRequest) error {
	e := &ipc.Error{Code: ipc.NotActive, Hints: []string{"superctl status " + r.Unit}}
	why := "it has no process"
	switch n := len(v.State.Inst); {
	case r.Instance != nil && *r.Instance >= n:
		why = fmt.Sprintf("it has no instance %d: %s", *r.Instance, numbered(n))
	case r.Whom == unit.KillNext:
		why = "no new process is coming up"
		e.Hints = []string{"a reload brings one up, and lets it bake: superctl reload --no-block " + r.Unit}
	}
	e.Message = fmt.Sprintf("cannot try %s: %s", r.Unit, why)
	return e
}

// numbered names n instances.
func numbered(n int) string {
	switch n {
	case 0:
		return "it has none"
	case 1:
		return "its only one is 0"
	}
	return fmt.Sprintf("they are 0 to %d", n-1)
}

// A spot is where a process has a queue of its own.
type spot struct {
	name    string // of the socket unit
	address string
	holder  unit.Invocation
	cookie  uint64 // of the socket
}

// spot finds where to ask a process: at the address wanted, else at its first.
func (t *trier) spot(e entry, p located, r ipc.TryRequest) (spot, error) {
	all := t.spots(doors.Process{Service: e.Name(), ID: p.ID})
	if len(all) == 0 {
		return spot{}, unsteered(e.View(), p, r)
	}
	known := make([]string, len(all))
	for i, s := range all {
		if r.Address == "" || s.address == r.Address {
			return s, nil
		}
		known[i] = s.address
	}
	return spot{}, &ipc.Error{
		Code:    ipc.Refused,
		Message: fmt.Sprintf("cannot try %s: %s has no steered socket at %s", r.Unit, p, r.Address),
		Hints:   []string{"known addresses: " + strings.Join(known, ", ")},
	}
}

func (t *trier) spots(who doors.Process) (all []spot) {
	for _, name := range t.doors.Of(who.Service) {
		for _, s := range steered(t.table, name) {
			if s.Holder == 0 || t.doors.Who(s.Holder) != who {
				continue
			}
			for _, h := range s.Shards {
				all = append(all, spot{name, h.Address, s.Holder, h.Cookie})
			}
		}
	}
	return all
}

// unsteered is the error that nobody can choose who gets a connection of p's service.
func unsteered(v *service.View, p located, r ipc.TryRequest) error {
	e := &ipc.Error{
		Code:    ipc.Refused,
		Message: fmt.Sprintf("cannot try %s: %s has no steered socket, and at a shared one nobody can choose who gets a connection", r.Unit, p),
		Hints:   []string{`write steer = "connections" in the socket, then: superctl daemon-reload`},
	}
	b := v.State.Build(p.Gen)
	if b == nil {
		return e
	}
	for _, s := range b.Spec.Sockets {
		if s.Steer {
			e.Notes = append(e.Notes, fmt.Sprintf("[socket.%s] is to be steered, but was open before", s.Name))
			e.Hints = []string{"to steer it: superctl restart " + r.Unit}
		}
		if s.Unsteered != "" {
			e.Notes = append(e.Notes, fmt.Sprintf("[socket.%s] is shared: %s", s.Name, s.Unsteered))
			e.Hints = nil
		}
	}
	if why := Unsteerable(); why != "" && len(e.Notes) == 0 {
		e.Notes, e.Hints = []string{"none can be steered here: " + why}, nil
	}
	return e
}

// String names a process for people.
func (p located) String() string {
	if p.instance == 0 {
		return fmt.Sprintf("pid %d (%s)", p.PID, p.role)
	}
	return fmt.Sprintf("pid %d (%s, instance %d)", p.PID, p.role, p.instance)
}

// try asks p. Who hangs in the kernel keeps its turn until it no longer does.
func (t *trier) try(r ipc.TryRequest, p located, s spot) (ipc.Tried, error) {
	select {
	case t.busy <- struct{}{}:
	default:
		return ipc.Tried{}, &ipc.Error{Code: ipc.Refused, Message: fmt.Sprintf("cannot try %s: %d others are being tried already", r.Unit, tryMost), Hints: []string{"try again in some seconds"}}
	}
	type outcome struct {
		answer ipc.Tried
		err    error
	}
	done := make(chan outcome, 1)
	by := time.Now().Add(tryTime)
	go func() {
		defer func() { <-t.busy }()
		answer, err := t.ask(s, r.Path, by)
		done <- outcome{answer, err}
	}()
	var o outcome
	timer := time.NewTimer(time.Until(by) + time.Second)
	defer timer.Stop()
	select {
	case o = <-done:
	case <-timer.C:
		o.err = os.ErrDeadlineExceeded
	}
	if o.err != nil {
		return ipc.Tried{}, failedTry(r, p, s, o.err)
	}
	a := o.answer
	a.Unit, a.Instance, a.Role, a.PID, a.Generation, a.Address = r.Unit, p.instance, string(p.role), p.PID, uint32(p.Gen), s.address
	return a, nil
}

func (t *trier) ask(s spot, path string, by time.Time) (ipc.Tried, error) {
	fd, err := t.dial(s.name, s.address, s.holder)
	if err != nil {
		return ipc.Tried{}, err
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return ipc.Tried{}, err
	}
	defer c.Close()
	answer, err := get(c, path, by)
	if !t.listens(s) {
		return ipc.Tried{}, errMoved
	}
	return answer, err
}

// errMoved means that nobody knows who answered.
var errMoved = errors.New("its queue has moved")

// listens tells whether the queue is still where it was. A queue moves when its socket
// ends, and then another process may have answered.
func (t *trier) listens(s spot) bool {
	for _, p := range steered(t.table, s.name) {
		if p.Holder != s.holder {
			continue
		}
		for _, h := range p.Shards {
			if h.Cookie == s.cookie {
				return h.Limit > 0
			}
		}
	}
	return false
}

// failedTry says what became of a request that was not answered.
func failedTry(r ipc.TryRequest, p located, s spot, err error) error {
	e := &ipc.Error{Code: ipc.Failed, Hints: []string{"superctl logs " + r.Unit}}
	var other *notHTTP
	what := ""
	switch {
	case errors.As(err, &other):
		what = fmt.Sprintf("%s does not answer in HTTP at %s: %s", p, s.address, other)
		e.Hints = other.hints()
	case errors.Is(err, errMoved):
		what = fmt.Sprintf("%s does not listen at %s any more: the request may have gone to another process", p, s.address)
	case errors.Is(err, syscall.ECONNREFUSED):
		what = fmt.Sprintf("%s refuses connections at %s", p, s.address)
	case errors.Is(err, syscall.EAGAIN):
		what = fmt.Sprintf("%s takes no connection at %s: its queue is full", p, s.address)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		what = fmt.Sprintf("%s did not answer at %s within %s", p, s.address, words.Short(tryTime))
		e.Notes = []string{"no other process was asked"}
		e.Hints = []string{"to see whether it accepts connections: superctl sockets " + r.Unit}
	default:
		what = fmt.Sprintf("%s at %s gave no answer: %v", p, s.address, err)
	}
	e.Message = fmt.Sprintf("cannot try %s: %s", r.Unit, what)
	return e
}
