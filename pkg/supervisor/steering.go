package supervisor

import (
	"errors"

	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Unsteerable is why sockets cannot be steered here, and what to do about that; empty:
// they can.
func Unsteerable() string { return "" }

// A steeredProcess is a process with shards of its own at the steered addresses of a
// unit; one without a holder stands for those who wait for nobody in particular.
type steeredProcess struct {
	Holder unit.Invocation
	Share  int // of 10,000
	Shards []socket.ShardStatus
}

// steered are the processes of a steered unit.
func steered(t *socket.Table, name string) (all []steeredProcess) {
	sum := 0
	for _, s := range t.Seats(name) {
		sum += s.Share
	}
	for _, s := range t.Seats(name) {
		if s.Holder != 0 {
			all = append(all, steeredProcess{s.Holder, s.Share * 10_000 / max(1, sum), s.Shards})
		}
	}
	return all
}

// dial connects to exactly one process of a steered unit.
func dial(*socket.Table) dialFunc {
	return func(string, string, unit.Invocation) (int, error) {
		return -1, errors.New("this version cannot choose who gets a connection")
	}
}
