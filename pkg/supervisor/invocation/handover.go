package invocation

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Pairs holds, for each service whose processes hand connections over to each
// other, the socket pair by which they do. Every process of the service has both
// ends. supervisord only keeps it, so that what an old process sends is there
// when the new one looks, whoever of them is first; it never reads it.
type Pairs struct {
	mu   sync.Mutex
	each map[string]pair
}

// A pair is for processes of one account: who changes it gets a new one, so that
// no process has connections from another user.
type pair struct {
	fds      [2]int
	uid, gid uint32
}

// NewPairs returns Pairs of no service.
func NewPairs() *Pairs { return &Pairs{each: map[string]pair{}} }

// lend returns duplicates of a service's pair, which are the caller's; nil if
// the service has none.
func (p *Pairs) lend(spec *unit.Spec, a process.Account) (*[2]int, error) {
	if !spec.Hand {
		p.Drop(spec.Name)
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	own, ok := p.each[spec.Name]
	if ok && (own.uid != a.UID || own.gid != a.GID) {
		own.close()
		ok = false
	}
	if !ok {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil, noPair(err)
		}
		own = pair{fds, a.UID, a.GID}
		p.each[spec.Name] = own
	}
	return own.dup()
}

func (p pair) dup() (*[2]int, error) {
	var fds [2]int
	for i := range fds {
		fd, err := unix.FcntlInt(uintptr(p.fds[i]), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			closeAll(fds[:i])
			return nil, noPair(err)
		}
		fds[i] = fd
	}
	return &fds, nil
}

// noPair says what is missing: only descriptors or memory can be.
func noPair(err error) error {
	return &process.StartError{
		Step: "handover", Status: 202, Detail: "cannot make the pair of sockets that handover takes: " + err.Error(),
		Advice: process.Shortage(err),
	}
}

// Drop forgets the pair of a service that has no process any more.
func (p *Pairs) Drop(service string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own, ok := p.each[service]; ok {
		own.close()
		delete(p.each, service)
	}
}

// close does not wait: what a process has left in the pair may hold up whoever
// closes it.
func (p pair) close() { go closeAll(p.fds[:]) }

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func closePair(fds *[2]int) {
	if fds != nil {
		closeAll(fds[:])
	}
}
