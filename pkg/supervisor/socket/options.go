package socket

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Options lie on the socket, not on a process's descriptor of it, and connections
// inherit most of them. So one process that sets SO_LINGER resets the connections
// of all others. These are the ones that harm others; what a server may well
// choose for its own connections (keep-alive, TCP_NODELAY, TCP_DEFER_ACCEPT,
// buffers) is left as it is.

// An option is one that nobody but us should set.
type option struct {
	name       string
	level, opt int
	undo       int // what means the default, if that cannot be set as it reads; keep: it can
}

const keep = -2

// noClamp is what a clamp of 0 means, which cannot be set on a listener.
const noClamp = 65535 << 14

var options = []option{
	{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, keep},
	{"SO_BINDTODEVICE", unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, keep},
	{"SO_DONTROUTE", unix.SOL_SOCKET, unix.SO_DONTROUTE, keep},
	{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, keep},
	{"SO_INCOMING_CPU", unix.SOL_SOCKET, unix.SO_INCOMING_CPU, keep},
	{"SO_MAX_PACING_RATE", unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, keep},
	{"IP_TTL", unix.IPPROTO_IP, unix.IP_TTL, -1},
	{"IP_MINTTL", unix.IPPROTO_IP, unix.IP_MINTTL, keep},
	{"IPV6_UNICAST_HOPS", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, -1},
	{"IPV6_MINHOPCOUNT", unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, keep},
	{"TCP_MAXSEG", unix.IPPROTO_TCP, unix.TCP_MAXSEG, 0},
	{"TCP_CORK", unix.IPPROTO_TCP, unix.TCP_CORK, keep},
	{"TCP_WINDOW_CLAMP", unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, noClamp},
	{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, keep},
}

// A Baseline is what a socket was like when it was made. It never changes.
type Baseline struct {
	Flags   int            // F_GETFL; -1: not known
	Values  map[string]int // by the names of options; those that are not there are not known
	Linger  *unix.Linger   // nil: not known
	Receive *unix.Timeval
	Send    *unix.Timeval
}

// observe reads the baseline. What an older kernel does not have is not watched.
func observe(fd int, a unit.Address) *Baseline {
	b := &Baseline{Values: map[string]int{}, Flags: -1}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil {
		b.Flags = flags
	}
	if a.Network == "unix" {
		return b
	}
	for _, o := range options {
		if v, err := unix.GetsockoptInt(fd, o.level, o.opt); err == nil {
			b.Values[o.name] = v
		}
	}
	b.Linger, _ = unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	b.Receive, _ = unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO)
	b.Send, _ = unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO)
	return b
}

// A change is something that a process has set, and how to undo it.
type change struct {
	name string
	undo func() error
}

// nonblocking is how O_NONBLOCK was set; not known: as asked.
func (b *Baseline) nonblocking(asked bool) bool {
	if b.Flags < 0 {
		return asked
	}
	return b.Flags&unix.O_NONBLOCK != 0
}

// withNonblock is b after O_NONBLOCK was set.
func (b *Baseline) withNonblock(on bool) *Baseline {
	is := *b
	if is.Flags = max(is.Flags, 0) &^ unix.O_NONBLOCK; on {
		is.Flags |= unix.O_NONBLOCK
	}
	return &is
}

// nonblocking reads O_NONBLOCK.
func nonblocking(fd int) (on, known bool) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return flags&unix.O_NONBLOCK != 0, err == nil
}

// changes lists what differs from the baseline, but for O_NONBLOCK.
func (b *Baseline) changes(fd int) (changed []change) {
	note := func(name string, undo func() error) { changed = append(changed, change{name, undo}) }
	for _, o := range options {
		was, known := b.Values[o.name]
		if v, err := unix.GetsockoptInt(fd, o.level, o.opt); known && err == nil && !o.same(v, was) {
			note(o.name, func() error { return o.restore(fd, was) })
		}
	}
	if l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER); err == nil && b.Linger != nil && l.Onoff != b.Linger.Onoff {
		note("SO_LINGER", func() error { return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, b.Linger) })
	}
	for _, t := range []struct {
		name string
		opt  int
		was  *unix.Timeval
	}{{"SO_RCVTIMEO", unix.SO_RCVTIMEO, b.Receive}, {"SO_SNDTIMEO", unix.SO_SNDTIMEO, b.Send}} {
		if v, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, t.opt); err == nil && t.was != nil && *v != *t.was {
			note(t.name, func() error { return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, t.opt, t.was) })
		}
	}
	return changed
}

// restore sets an option back, and sees whether that worked: some cannot be
// unset without a privilege.
func (o option) restore(fd, value int) error {
	set := value
	if o.undo != keep {
		set = o.undo
	}
	if err := unix.SetsockoptInt(fd, o.level, o.opt, set); err != nil {
		return err
	}
	if v, err := unix.GetsockoptInt(fd, o.level, o.opt); err != nil || !o.same(v, value) {
		return errors.Join(errStays, err)
	}
	return nil
}

func (o option) same(v, value int) bool { return v == value || v == o.undo }

var errStays = errors.New("the kernel keeps the new value")
