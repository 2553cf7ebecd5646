package supervisor

import "github.com/supervisord-go/supervisord/pkg/supervisor/socket"

// Unsteerable is why sockets cannot be steered here, and what to do about that; empty:
// they can.
func Unsteerable() string {
	if err := socket.Steerable(); err != nil {
		return err.Error()
	}
	return ""
}

// steered are the processes of a steered unit; the first stands for those who wait for
// nobody in particular.
func steered(t *socket.Table, name string) []socket.Process { return t.Processes(name) }

// dial connects to exactly one process of a steered unit.
func dial(t *socket.Table) dialFunc { return t.Dial }
