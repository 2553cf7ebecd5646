package worker

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A pair is the socket pair that all generations of a service have both ends of.
type pair struct {
	in  *net.UnixConn // what others send
	out *net.UnixConn
}

// takePair makes the pair of SUPERVISORD_HANDOVER, which is "8:9": the descriptor
// to receive from and the one to send to, neither below first.
func takePair(value string, first int) (*pair, error) {
	in, out, _ := strings.Cut(value, ":")
	a, errIn := strconv.Atoi(in)
	b, errOut := strconv.Atoi(out)
	if errIn != nil || errOut != nil || a == b || min(a, b) < first {
		return nil, fmt.Errorf("cannot take the handover: SUPERVISORD_HANDOVER=%q are not two descriptors from %d on", value, first)
	}
	var p pair
	var err error
	if p.in, err = takeEnd(a); err != nil {
		return nil, err
	}
	if p.out, err = takeEnd(b); err != nil {
		p.in.Close()
		return nil, err
	}
	return &p, nil
}

func takeEnd(fd int) (*net.UnixConn, error) {
	if err := closeOnExec(fd); err != nil {
		return nil, fmt.Errorf("cannot take the handover's descriptor %d: %w", fd, err)
	}
	if !isSocket(fd, unix.AF_UNIX, unix.SOCK_SEQPACKET) {
		return nil, fmt.Errorf("cannot take the handover's descriptor %d: it is no unix socket for packets", fd)
	}
	c, err := unixConn(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot take the handover's descriptor %d: %w", fd, err)
	}
	return c, nil
}

// unixConn owns fd, which is a unix socket and closed also if this fails.
func unixConn(fd int) (*net.UnixConn, error) {
	c, err := fileConn(fd)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, net.UnknownNetworkError(c.LocalAddr().Network())
	}
	return u, nil
}

// fileConn makes a connection of a socket. It owns fd.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	return net.FileConn(f)
}

// isSocket reports whether fd is a socket of this kind that does not listen.
func isSocket(fd, domain, kind int) bool {
	is := func(option, want int) bool {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		return err == nil && got == want
	}
	return is(unix.SO_DOMAIN, domain) && is(unix.SO_TYPE, kind) && is(unix.SO_ACCEPTCONN, 0)
}
