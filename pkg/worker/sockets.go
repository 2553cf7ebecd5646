package worker

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Sockets are the descriptors that the supervisor passed to this process. They
// stay open until whoever got one closes it.
type Sockets struct {
	sockets []inheritedSocket
	foreign string // the pid that they were passed to, if it is not ours
}

// An inheritedSocket is one descriptor. Exactly one of the last three is set.
type inheritedSocket struct {
	name   string
	stream net.Listener
	packet net.PacketConn
	file   *os.File
}

// Inherited returns the sockets that the supervisor passed by LISTEN_FDS, none
// if there is no supervisor. It always returns the same.
//
// The first call of this, or of anything else in this package, takes LISTEN_*,
// NOTIFY_SOCKET, WATCHDOG_* and SUPERVISORD_HANDOVER out of the environment and
// makes the descriptors close-on-exec, so that programs which this one starts
// get neither.
func Inherited() (*Sockets, error) {
	e := inherited()
	return e.sockets, e.err
}

// Listeners returns the inherited stream sockets of a name, in the order in which
// they were passed. Without a name it returns all. See [Inherited].
func Listeners(name ...string) ([]net.Listener, error) {
	s, err := Inherited()
	if err != nil {
		return nil, err
	}
	return s.Listeners(name...)
}

// Listen returns the inherited stream sockets called name: more than one if
// several addresses have that name. If no sockets were passed to this process,
// as by `go run .`, it listens on address, as [net.Listen] does.
func Listen(name, network, address string) ([]net.Listener, error) {
	s, err := Inherited()
	if err != nil {
		return nil, err
	}
	if len(s.sockets) > 0 {
		return s.Listeners(name)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, s.explain(err)
	}
	return []net.Listener{l}, nil
}

// ListenPacket is [Listen] for datagram sockets, udp and unixgram.
func ListenPacket(name, network, address string) ([]net.PacketConn, error) {
	s, err := Inherited()
	if err != nil {
		return nil, err
	}
	if len(s.sockets) > 0 {
		return s.PacketConns(name)
	}
	c, err := net.ListenPacket(network, address)
	if err != nil {
		return nil, s.explain(err)
	}
	return []net.PacketConn{c}, nil
}

// Listeners returns the stream sockets that have one of the names, or all of them
// without a name. A name that no stream socket has is an error.
func (s *Sockets) Listeners(name ...string) ([]net.Listener, error) {
	return pick(s, name, "stream socket", func(i inheritedSocket) (net.Listener, bool) { return i.stream, i.stream != nil })
}

// PacketConns returns the datagram sockets likewise.
func (s *Sockets) PacketConns(name ...string) ([]net.PacketConn, error) {
	return pick(s, name, "datagram socket", func(i inheritedSocket) (net.PacketConn, bool) { return i.packet, i.packet != nil })
}

// Files returns whatever else was passed likewise, which is what [Store] has
// stored and what the supervisor opened. The caller must not close a file that
// it means to ask for again.
func (s *Sockets) Files(name ...string) ([]*os.File, error) {
	return pick(s, name, "file", func(i inheritedSocket) (*os.File, bool) { return i.file, i.file != nil })
}

// Names returns the names of all that was passed, sorted, each once.
func (s *Sockets) Names() []string {
	var names []string
	for _, i := range s.sockets {
		names = append(names, i.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func pick[T any](s *Sockets, names []string, what string, is func(inheritedSocket) (T, bool)) ([]T, error) {
	var found []T
	missing := slices.Clone(names)
	for _, i := range s.sockets {
		t, ok := is(i)
		if !ok || len(names) > 0 && !slices.Contains(names, i.name) {
			continue
		}
		found = append(found, t)
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == i.name })
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("cannot find a %s called %s: %s", what, quoted(missing), s.inventory())
	}
	return found, nil
}

func (s *Sockets) inventory() string {
	if len(s.sockets) == 0 {
		return "none were passed to this process"
	}
	return "passed were " + quoted(s.Names())
}

// nameOf returns the name that a listener was passed by.
func (s *Sockets) nameOf(l net.Listener) string {
	for _, i := range s.sockets {
		if i.stream != nil && i.stream == l {
			return i.name
		}
	}
	return ""
}

// explain adds to an error of net.Listen why there was need to listen at all.
func (s *Sockets) explain(err error) error {
	if s.foreign == "" {
		return fmt.Errorf("cannot listen: %w", err)
	}
	return fmt.Errorf("cannot listen: %w (the sockets were passed to process %s, this is %d: a script must start it by exec)", err, s.foreign, os.Getpid())
}

func quoted(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", name)
	}
	return b.String()
}

func takeSockets(n int, names string) (*Sockets, error) {
	s := &Sockets{}
	if n == 0 {
		return s, nil
	}
	all, err := splitNames(names, n)
	if err != nil {
		return nil, err
	}
	for i, name := range all {
		socket, err := take(firstFD+i, name)
		if err != nil {
			return nil, fmt.Errorf("cannot take socket %q, descriptor %d: %w", name, firstFD+i, err)
		}
		s.sockets = append(s.sockets, socket)
	}
	return s, nil
}

// take makes of a descriptor what it is. The functions of package net duplicate
// the descriptor, so the original is closed. They ask for File.Fd, which makes
// blocking only what os.NewFile had made non-blocking, and that it does to no
// socket: whoever shares the socket is not disturbed.
func take(fd int, name string) (inheritedSocket, error) {
	socket := inheritedSocket{name: name}
	file := os.NewFile(uintptr(fd), name)
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	listening, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	switch {
	case err != nil:
		socket.file = file
		return socket, nil
	case listening != 0:
		defer file.Close()
		socket.stream, err = net.FileListener(file)
	case kind == unix.SOCK_DGRAM:
		defer file.Close()
		socket.packet, err = net.FilePacketConn(file)
	default:
		socket.file = file
	}
	return socket, err
}
