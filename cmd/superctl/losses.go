package main

import (
	"fmt"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// A reload says what was lost, not what it hopes: the kernel counts, for each
// listening socket, the connections that wait and the packets that it dropped:
// handshakes that found no room in the queue, and what belongs to no connection.

// tellAccount shows what became of a job's sockets. Where nothing is known, or
// nothing can be lost, there is nothing to say.
func (s *session) tellAccount(p *progress, t *task) {
	if s.json {
		return
	}
	for _, a := range t.job.Sockets {
		if a.Limit <= 0 {
			continue
		}
		p.c.print("%s%s\n", p.indent(t), p.c.paint(plain, accountText(a)))
	}
	for _, a := range t.job.Sockets {
		s.tellLosses(a)
	}
	for _, n := range t.job.Notes {
		s.note(n)
	}
	for _, h := range t.job.Hints {
		s.hint(h)
	}
}

func accountText(a ipc.SocketAccount) string {
	queue := inQueue(a.Queue, a.Limit)
	if a.QueueBefore >= 0 && a.QueueBefore != a.Queue {
		queue += fmt.Sprintf(" (was %d)", a.QueueBefore)
	}
	return fmt.Sprintf("%s: %s, %d dropped", a.Address, queue, dropped(a))
}

// inQueue is how many connections wait to be accepted, and how many can.
func inQueue(n, limit int) string { return fmt.Sprintf("%d of %d in the queue", n, limit) }

// dropped is what clients have noticed at sockets.
func dropped(all ...ipc.SocketAccount) (n uint64) {
	for _, a := range all {
		n += a.Drops
	}
	return n
}

// tellLosses notes what clients have noticed.
func (s *session) tellLosses(a ipc.SocketAccount) {
	if a.Drops > 0 {
		s.note(fmt.Sprintf("%s dropped %s meanwhile; a client whose handshake it was tries again after a second", a.Address, count(int(a.Drops), "packet")))
	}
}
