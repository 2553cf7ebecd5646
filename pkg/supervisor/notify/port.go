package notify

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// A port is one socket that is, or was, bound to the path.
type port struct {
	file *os.File
	raw  syscall.RawConn
	node unix.Stat_t // of its inode
	kept func()      // nobody need keep it any more; nil: nobody does
}

// close does not wait: what is still queued may hold descriptors whose close blocks.
func (p *port) close() {
	go func() {
		if p.kept != nil {
			p.kept()
		}
		p.file.Close()
	}()
}

// Renew binds the path again if it does not lead to the socket any more: somebody has
// removed it, or the directory that it lies in. Until then nobody can send, so a
// service would miss its watchdog, or never become ready. What was sent before still
// counts, and comes first. It says whether it had to; after Close it does nothing.
func (s *Socket) Renew() (renewed bool, err error) {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	if s.isThere() {
		return false, nil
	}
	p, err := s.bind()
	if err != nil {
		return false, err
	}
	if !s.become(p) {
		s.dir.Remove(s.name)
		p.close()
		return false, nil
	}
	return true, nil
}

// rebind binds the path anew, wherever it leads now.
func (s *Socket) rebind() {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	p, err := s.bind()
	if err != nil {
		return // it stays as it is, and is looked at again by Renew
	}
	if !s.become(p) {
		s.dir.Remove(s.name)
		p.close()
	}
}

// forget lets go of former ports with all that is queued there.
func (s *Socket) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed { // Close does it
		return
	}
	for _, p := range s.former {
		p.close()
	}
	s.former = nil
}

// isThere says that nothing is to be done. What cannot be found out is taken for good.
func (s *Socket) isThere() bool {
	s.mu.Lock()
	closed, node := s.closed, s.now.node
	s.mu.Unlock()
	if closed {
		return true
	}
	var is unix.Stat_t
	err := unix.Fstatat(s.dir.FD(), s.name, &is, unix.AT_SYMLINK_NOFOLLOW)
	return err != unix.ENOENT && (err != nil || safepath.SameFile(is, node))
}

// maxFormer bounds what is kept of a path that is removed again and again while its
// messages are not heard.
const maxFormer = 8

// become makes a port the one that the path leads to, unless the socket is closed.
func (s *Socket) become(p *port) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	before := s.now
	s.former, s.now = append(s.former, before), p
	if len(s.former) > maxFormer {
		s.former[0].close()
		s.former = slices.Delete(s.former, 0, 1)
	}
	before.file.SetReadDeadline(time.Unix(1, 0)) // the reader may wait there
	return true
}

// port is where to receive next, and whether that is the last one.
func (s *Socket) port() (p *port, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.former) > 0 {
		return s.former[0], false
	}
	return s.now, true
}

// retire lets go of a former port.
func (s *Socket) retire(p *port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.former, p); i >= 0 && !s.closed { // Close does it
		s.former = slices.Delete(s.former, i, i+1)
		p.close()
	}
}

// ports are all of them.
func (s *Socket) ports() []*port {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(slices.Clone(s.former), s.now)
}

// bind makes a port at the path.
func (s *Socket) bind() (*port, error) {
	p := &port{}
	fd, err := s.bindFD(p)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", s.Path(), err)
	}
	if err := p.take(os.NewFile(uintptr(fd), s.Path())); err != nil {
		s.dir.Remove(s.name)
		if p.kept != nil {
			p.kept()
		}
		return nil, fmt.Errorf("cannot listen on %s: %w", s.Path(), err)
	}
	return p, nil
}

// take takes the file over, or closes it.
func (p *port) take(file *os.File) (err error) {
	if p.raw, err = file.SyscallConn(); err == nil && file.SetReadDeadline(time.Time{}) != nil {
		err = errUnwatched // nobody would learn of a message
	}
	if err != nil {
		file.Close()
		return err
	}
	p.file = file
	return nil
}

var errUnwatched = errors.New("the kernel watches no more files for us (fs.epoll.max_user_watches)")

// bindFD makes the socket. Its inode is born with mode 0 and gets group and mode
// by a descriptor, so nobody can connect before it is as it should be.
func (s *Socket) bindFD(p *port) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if s.o.Open {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSPIDFD, 1) // fails before Linux 6.5: see belongs
	}
	if s.deaf.Load() {
		passRights(fd, false) // fails before Linux 6.16
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1), unix.Fchmod(fd, 0))
	if err == nil {
		err = s.bindName(fd)
	}
	if err == nil {
		if err = s.admit(p, fd); err != nil {
			s.dir.Remove(s.name)
		}
	}
	if err != nil {
		if p.kept != nil {
			p.kept()
		}
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// admit opens the socket to its senders, when it is kept.
func (s *Socket) admit(p *port, fd int) (err error) {
	if s.o.Keep != nil {
		if p.kept, err = s.o.Keep(fd); err != nil {
			return fmt.Errorf("it cannot be kept: %w", err)
		}
	}
	return s.open(p)
}

// bindName takes the name, also from a supervisord that was killed: the
// directory is locked, so no living one has it.
func (s *Socket) bindName(fd int) error {
	at := &unix.SockaddrUnix{Name: s.dir.ProcName(s.name)}
	err := unix.Bind(fd, at)
	if err != unix.EADDRINUSE {
		return err
	}
	if err := s.dir.Remove(s.name); err != nil {
		return err
	}
	return unix.Bind(fd, at)
}

// open lets in whom the options name.
func (s *Socket) open(p *port) error {
	fd, err := unix.Openat(s.dir.FD(), s.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &p.node); err != nil {
		return err
	}
	switch {
	case s.shut.Load():
		if err := safepath.Chown(fd, userOf(s.main.Load()), -1); err != nil {
			return err
		}
		return safepath.Chmod(fd, 0o600)
	case s.o.Open:
		return safepath.Chmod(fd, 0o666)
	}
	if s.o.GID < 0 {
		return safepath.Chmod(fd, 0o600)
	}
	if err := safepath.Chown(fd, -1, s.o.GID); err != nil {
		return err
	}
	return safepath.Chmod(fd, 0o660)
}
