package socket

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// firstGiven is SD_LISTEN_FDS_START.
const firstGiven = 3

// A Given is a descriptor that supervisord was started with (sd_listen_fds(3)).
type Given struct {
	FD      int
	Name    string       // from LISTEN_FDNAMES; may be empty
	Address unit.Address // where it listens; zero if it is no TCP or unix socket
	Kind    string       // what it is, in words: "stream socket", "datagram socket", …

	listening bool
	nonblock  bool
}

// Unused is the error that this descriptor was given and no unit names it.
func (g Given) Unused() error {
	if g.Name == "" {
		return fmt.Errorf("cannot use the %s, given as fd %d: no [socket.*] listens there; add one, or remove it from systemd's .socket unit", g.what(), g.FD)
	}
	return fmt.Errorf("cannot use the %s, given as %q: no [socket.*] has that name or address; add [socket.%s], or remove it from systemd's .socket unit",
		g.what(), g.Name, strings.TrimSuffix(g.Name, ".socket"))
}

// what is its kind, with its address if it has one.
func (g Given) what() string {
	if g.Address == (unit.Address{}) || g.Address == (unit.Address{Network: "unix"}) {
		return g.Kind
	}
	return g.Kind + " " + g.Address.String()
}

// Inherited takes what supervisord was started with. The variables that announce
// it are unset, whether or not they are meant for this process, and the
// descriptors made close-on-exec. It must be called before anything else opens
// descriptors, and once. A list that makes no sense is an error; one for another
// process is not ours to judge.
//
// go-systemd's activation package does the same with os.Files. Those close the
// descriptors when they are collected, get them into the runtime's poller, and
// their names do not tell a real one from one that was made up.
func Inherited() ([]Given, error) {
	env := map[string]string{}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
			os.Unsetenv(name)
		}
	}
	if !forUs(env) {
		return nil, nil
	}
	return inherit(env["LISTEN_FDS"], env["LISTEN_FDNAMES"])
}

// forUs says whether the variables were made for this process and not for one
// that we descend from.
func forUs(env map[string]string) bool {
	if env["LISTEN_PID"] != strconv.Itoa(os.Getpid()) {
		return false
	}
	id, ok := env["LISTEN_PIDFDID"]
	if !ok {
		return true
	}
	own, err := ownPidfd()
	return err != nil || id == strconv.FormatUint(own, 10)
}

// ownPidfd is the inode of our pidfd, unique in a boot (Linux 6.9). Before, all
// pidfds had the same one, and systemd does not pass it.
func ownPidfd() (uint64, error) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Ino, err
}

func inherit(count, list string) (given []Given, err error) {
	n, err := strconv.Atoi(count)
	if err != nil || n <= 0 {
		return nil, fmt.Errorf("cannot take the given sockets: LISTEN_FDS=%q is not a number of descriptors", count)
	}
	var names []string
	if list != "" {
		names = strings.Split(list, ":")
	}
	if len(names) > 0 && len(names) != n {
		return nil, fmt.Errorf("cannot take the given sockets: LISTEN_FDS=%d, but LISTEN_FDNAMES has %d names", n, len(names))
	}
	for i := range n {
		g := Given{FD: firstGiven + i}
		if len(names) > 0 {
			g.Name = names[i]
		}
		if err := g.look(); err != nil {
			return nil, fmt.Errorf("cannot take the given sockets: LISTEN_FDS=%d, but fd %d is not open: %w", n, g.FD, err)
		}
		given = append(given, g)
	}
	return given, nil
}

// look finds out what a descriptor is by calls that never touch a file system.
func (g *Given) look() error {
	if _, err := unix.FcntlInt(uintptr(g.FD), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return err
	}
	flags, err := unix.FcntlInt(uintptr(g.FD), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	g.nonblock = flags&unix.O_NONBLOCK != 0
	kind, err := unix.GetsockoptInt(g.FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		g.Kind = "descriptor that is no socket"
		return nil
	}
	g.Kind = kinds[kind]
	if g.Kind == "" {
		g.Kind = "socket of an unknown type"
	}
	if sa, err := unix.Getsockname(g.FD); err == nil {
		g.Address = address(sa)
	}
	accepts, err := unix.GetsockoptInt(g.FD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	g.listening = err == nil && accepts == 1
	return nil
}

var kinds = map[int]string{
	unix.SOCK_STREAM:    "stream socket",
	unix.SOCK_DGRAM:     "datagram socket",
	unix.SOCK_SEQPACKET: "sequential-packet socket",
	unix.SOCK_RAW:       "raw socket",
}

// named says whether systemd's name means this unit. A .socket unit without
// FileDescriptorName= passes its own name, suffix included.
func (g Given) named(s *unit.Socket) bool {
	return g.Name != "" && (g.Name == s.FDName || g.Name == s.Name || g.Name == s.Name+".socket")
}

// fits says why a socket cannot stand for an address; nil: it can.
func (g Given) fits(a unit.Address) error {
	switch {
	case g.Kind != kinds[unix.SOCK_STREAM]:
		return fmt.Errorf("systemd gave a %s by that name, a stream socket is needed (ListenStream=)", g.what())
	case g.Address.Network != a.Network || (a.Network == "unix") != (g.Address.Path != ""):
		return fmt.Errorf("systemd gave a %s by that name, which is of another family; make ListenStream= and listen_stream agree", g.what())
	}
	return nil
}

// at says whether a socket listens exactly there.
func (g Given) at(a unit.Address) bool {
	if g.Kind != kinds[unix.SOCK_STREAM] {
		return false
	}
	b := g.Address
	if a.Host == "" && a.Network == "tcp" && (b.Host == "::" || b.Host == "0.0.0.0") {
		b.Host = ""
	}
	return same(a, b)
}

func same(a, b unit.Address) bool {
	if a.Network == "tcp" {
		x, err := sockaddr(a)
		y, err2 := sockaddr(b)
		return a.Port != 0 && errors.Join(err, err2) == nil && address(x) == address(y)
	}
	return a == b
}

// collide says whether no two sockets can listen on both.
func collide(a, b unit.Address) bool {
	if a.Network == "unix" || b.Network == "unix" || a.Port != b.Port {
		return a == b
	}
	return same(a, b) || everywhere(a) || everywhere(b)
}

func everywhere(a unit.Address) bool {
	ip, err := netip.ParseAddr(a.Host)
	return a.Host == "" || err == nil && ip.IsUnspecified()
}

// claim takes from what was given all that belongs to these addresses of s: who
// has both its name and the address, then the rest of its name in order, then
// who has just the address.
func (t *Table) claim(s *unit.Socket, missing []unit.Address) (map[unit.Address]Given, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	got := map[unit.Address]Given{}
	take := func(match func(Given, unit.Address) bool) {
		for _, a := range missing {
			if _, ok := got[a]; ok {
				continue
			}
			if i := slices.IndexFunc(t.given, func(g Given) bool { return match(g, a) }); i >= 0 {
				got[a] = t.given[i]
				t.given = slices.Delete(t.given, i, i+1)
			}
		}
	}
	take(func(g Given, a unit.Address) bool { return g.named(s) && g.at(a) })
	take(func(g Given, a unit.Address) bool { return g.named(s) })
	take(func(g Given, a unit.Address) bool { return g.at(a) })
	for a, g := range got {
		if err := g.fits(a); err != nil {
			for _, g := range got {
				t.given = append(t.given, g)
			}
			return nil, &BindError{Socket: s.Name, Address: a.String(), Err: err, UID: -1}
		}
	}
	return got, nil
}

// CloexecRest makes every descriptor from 3 on close-on-exec, so that nothing
// our parent left open reaches a worker.
func CloexecRest() error {
	const closeRangeCloexec = 4 // Linux 5.11
	err := unix.CloseRange(firstGiven, math.MaxUint32, closeRangeCloexec)
	if err == nil {
		return nil
	}
	return cloexecEach()
}

// cloexecEach does the same by the list of what is open. Others that are opened
// meanwhile are ours, and have the flag.
func cloexecEach() error {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("cannot make inherited descriptors close-on-exec: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("cannot make inherited descriptors close-on-exec: %w", err)
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd >= firstGiven {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
