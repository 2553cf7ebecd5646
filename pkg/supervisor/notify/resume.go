package notify

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A Kept is a descriptor of a socket that a former manager made.
type Kept struct {
	FD     int
	Forget func() // as [Options].Keep returned it; may be nil
}

// Resume goes on with a socket of a former manager: what waits in it is heard after
// Start, and what that manager had heard but not yet taken is heard again. all are the
// descriptors that were kept, the latest last; there is more than one where the path
// was bound again ([Socket.Renew]). They are the socket's from then on; with an error
// they are closed, and nothing is forgotten.
//
// The path may have been removed since. Then it is bound again, now or, if that cannot
// be done, by the next Renew.
func Resume(dir *safepath.Dir, name string, o Options, all ...Kept) (*Socket, error) {
	s := newSocket(dir, name, o)
	ports, err := s.adopt(all)
	if err == nil && len(ports) == 0 {
		err = errNone
	}
	if err != nil {
		for _, p := range ports {
			go p.file.Close()
		}
		return nil, fmt.Errorf("cannot go on with the notify socket %s: %w", s.Path(), err)
	}
	last := len(ports) - 1
	s.former, s.now = ports[:last:last], ports[last]
	s.recall()
	s.Renew() // an error is met again by the next one
	return s, nil
}

var (
	errNone     = errors.New("nobody has kept it")
	errNoSocket = errors.New("what was kept is not a datagram socket")
)

// adopt makes ports of what was kept. With an error it has closed those that are none.
func (s *Socket) adopt(all []Kept) (ports []*port, err error) {
	for _, k := range all {
		p := &port{kept: k.Forget}
		e := isDatagram(k.FD)
		if e == nil {
			e = p.take(os.NewFile(uintptr(k.FD), s.Path()))
		} else {
			unix.Close(k.FD)
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		ports = append(ports, p)
	}
	return ports, err
}

func isDatagram(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err == nil && (domain != unix.AF_UNIX || kind != unix.SOCK_DGRAM) {
		err = errNoSocket
	}
	return err
}

// recall finds out how far the former manager came: whether the path leads to the
// socket, and whether it was closed to descriptors (see takeNoMore). It lets the
// senders in, since that manager may have been killed before it did.
func (s *Socket) recall() {
	s.now.raw.Control(func(fd uintptr) {
		on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSRIGHTS)
		s.deaf.Store(err == nil && on == 0)
	})
	node, err := s.answers()
	if err != nil {
		return // Renew sees that it is not there
	}
	s.shut.Store(s.o.Open && node.Mode&0o777 == 0o600)
	if s.deaf.Load() || s.shut.Load() {
		s.deaf.Store(true)
		s.most = manyFDs
	}
	s.open(s.now)
}

// answers says whether somebody has the socket that the path leads to. In this
// directory that can only be the one that was kept last: one that was bound by a
// manager that was killed before it was kept has nobody.
func (s *Socket) answers() (node unix.Stat_t, err error) {
	if err := unix.Fstatat(s.dir.FD(), s.name, &node, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return node, err
	}
	if node.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return node, errNoSocket
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return node, err
	}
	defer unix.Close(fd)
	return node, unix.Connect(fd, &unix.SockaddrUnix{Name: s.dir.ProcName(s.name)})
}
