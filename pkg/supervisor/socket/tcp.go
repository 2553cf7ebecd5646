package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// create is socket(2); this is the one place where O_NONBLOCK is chosen.
func create(family int, s *unit.Socket) (int, error) {
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if s.NonBlocking {
		kind |= unix.SOCK_NONBLOCK
	}
	return unix.Socket(family, kind, 0)
}

// bindTCP makes and binds a socket, with the options in systemd's order.
func bindTCP(s *unit.Socket, a unit.Address) (int, error) {
	to, err := sockaddr(a)
	if err != nil {
		return -1, err
	}
	fd, err := bindTo(s, to)
	if err == unix.EAFNOSUPPORT && a.Host == "" { // no IPv6 here, and none was asked for
		to = &unix.SockaddrInet4{Port: a.Port}
		fd, err = bindTo(s, to)
	}
	if err == nil && a.Port == 0 {
		return pin(fd, s)
	}
	return fd, err
}

// bindTo first tries without SO_REUSEADDR: the port is then closed to all others
// also while we do not listen. It takes the option where connections of an
// earlier process linger on the port.
func bindTo(s *unit.Socket, to unix.Sockaddr) (int, error) {
	fd, err := prepared(s, to)
	if err != nil {
		return -1, err
	}
	if err := occupyPort(fd, to); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

func occupyPort(fd int, to unix.Sockaddr) error {
	err := unix.Bind(fd, to)
	if err == unix.EADDRINUSE {
		if err = reuse(fd, true); err == nil {
			err = unix.Bind(fd, to)
		}
		if err == nil {
			err = reuse(fd, false)
		}
	}
	return err
}

// prepared is a socket with the options that bind(2) reads.
func prepared(s *unit.Socket, to unix.Sockaddr) (fd int, err error) {
	_, v4 := to.(*unix.SockaddrInet4)
	family := unix.AF_INET6
	if v4 {
		family = unix.AF_INET
	}
	if fd, err = create(family, s); err != nil {
		return -1, err
	}
	if !v4 && s.IPv6Only != nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, bit(*s.IPv6Only))
	}
	if err == nil && s.FreeBind {
		err = freeBind(fd, v4)
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// freeBind allows an address that no interface has yet.
func freeBind(fd int, v4 bool) error {
	if v4 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
}

// pin replaces a socket on a port that the kernel chose by one that has asked
// for that port. The kernel takes its own choice back at shutdown(2); one that
// was asked for it leaves. Both are bound for a moment, so nobody comes between.
func pin(fd int, s *unit.Socket) (int, error) {
	defer closeFD(fd)
	to, err := unix.Getsockname(fd)
	if err != nil {
		return -1, err
	}
	if err := reuse(fd, true); err != nil {
		return -1, err
	}
	return bindTo(s, to)
}

func reuse(fd int, on bool) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, bit(on))
}

// hush ends listening without losing the port: the socket is as bind(2) left it,
// with its cookie. On one that does not listen shutdown(2) would fail, and yet
// leave a mark that connections inherit: each would read as ended by its client.
// Whoever has a copy can do that, so this takes the mark away too.
func hush(fd int) error {
	if accepts(fd) {
		if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil && err != unix.ENOTCONN {
			return err
		}
	}
	return disconnect(fd)
}

// disconnect is connect(2) to AF_UNSPEC.
func disconnect(fd int) error {
	var none unix.RawSockaddr
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
	if errno != 0 {
		return errno
	}
	return nil
}

// tune sets the options that an open socket can change. As in systemd none of
// them is worth a socket that does not work: what fails is reported.
func tune(fd int, s *unit.Socket, a unit.Address) (err error) {
	set := func(what string, level, option, value int) {
		if e := unix.SetsockoptInt(fd, level, option, value); e != nil {
			err = errors.Join(err, fmt.Errorf("cannot set %s of %s: %w", what, a, e))
		}
	}
	if a.Network != "unix" {
		set("keep_alive", unix.SOL_SOCKET, unix.SO_KEEPALIVE, bit(s.KeepAlive))
		set("no_delay", unix.IPPROTO_TCP, unix.TCP_NODELAY, bit(s.NoDelay))
	}
	if s.ReceiveBuf > 0 {
		set("receive_buffer", unix.SOL_SOCKET, force(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, s.ReceiveBuf), s.ReceiveBuf)
	}
	if s.SendBuf > 0 {
		set("send_buffer", unix.SOL_SOCKET, force(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, s.SendBuf), s.SendBuf)
	}
	return err
}

// force is the option that goes beyond the system's limit, if we may use it.
func force(fd, privileged, plain, value int) int {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, privileged, value) == nil {
		return privileged
	}
	return plain
}

// sockaddr is where a TCP address is for the kernel.
func sockaddr(a unit.Address) (unix.Sockaddr, error) {
	if a.Port < 0 || a.Port > 65535 {
		return nil, fmt.Errorf("port %d is not between 0 and 65535", a.Port)
	}
	if a.Host == "" {
		return &unix.SockaddrInet6{Port: a.Port}, nil
	}
	ip, err := netip.ParseAddr(a.Host)
	switch {
	case err != nil || ip.Zone() != "":
		return nil, fmt.Errorf("%q is not an IP address", a.Host)
	case ip.Is4():
		return &unix.SockaddrInet4{Port: a.Port, Addr: ip.As4()}, nil
	}
	return &unix.SockaddrInet6{Port: a.Port, Addr: ip.As16()}, nil
}

// address is the opposite of sockaddr, for all that listens.
func address(sa unix.Sockaddr) unit.Address {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return unit.Address{Network: "tcp", Host: netip.AddrFrom4(sa.Addr).String(), Port: sa.Port}
	case *unix.SockaddrInet6:
		return unit.Address{Network: "tcp", Host: netip.AddrFrom16(sa.Addr).String(), Port: sa.Port}
	case *unix.SockaddrUnix:
		return unit.Address{Network: "unix", Path: sa.Name}
	}
	return unit.Address{}
}

func bit(on bool) int {
	if on {
		return 1
	}
	return 0
}
