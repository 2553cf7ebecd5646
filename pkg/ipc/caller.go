package ipc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Caller identifies the client of a request. The kernel provides its credentials, as
// they were when it called connect(2): they do not change if the client changes its ids
// later, or passes the connection on.
type Caller struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary ones
	PID    int      // may be somebody else's by now: for the record only, it authorises nothing
}

// A Role is what a caller may do. Each role includes the ones before it.
type Role uint8

const (
	Nobody Role = iota // nothing at all
	Read               // see status, events and logs
	Act                // start, stop, reload, kill, …
	Admin              // change what supervisord itself is told to run
)

func (r Role) String() string { return [...]string{"nobody", "read", "act", "admin"}[r] }

// A judge gives callers their roles. In this version there are two kinds of
// them: root and supervisord's own user, who may do everything, and the others.
type judge struct {
	own      uint32
	unmapped int64 // what ids that are not ours to know look like; -1: we know all
}

func newJudge() judge {
	return judge{own: uint32(os.Geteuid()), unmapped: unmapped("/proc/self/uid_map", "/proc/sys/kernel/overflowuid")}
}

func (j judge) role(c Caller) Role {
	switch {
	case int64(c.UID) == j.unmapped:
		return Nobody // in a user namespace: could be anybody outside it, even root
	case c.UID == 0, c.UID == j.own:
		return Admin
	}
	return Nobody
}

// unmapped is the id as which the kernel shows all that have none in our user
// namespace (user_namespaces(7)), or -1 where every id is mapped.
func unmapped(idMap, overflow string) int64 {
	text, err := os.ReadFile(idMap)
	if f := strings.Fields(string(text)); err == nil && len(f) == 3 && f[0] == "0" && f[2] == "4294967295" {
		return -1
	}
	text, err = os.ReadFile(overflow)
	id, perr := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || perr != nil {
		return 65534
	}
	return int64(id)
}

// peer asks the kernel who is at the other end of a unix socket.
func peer(c *net.UnixConn) (who Caller, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return who, err
	}
	cerr := raw.Control(func(fd uintptr) { who, err = credentials(int(fd)) })
	return who, errors.Join(cerr, err)
}

func credentials(fd int) (Caller, error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Caller{}, fmt.Errorf("cannot get SO_PEERCRED: %w", err)
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return Caller{}, fmt.Errorf("cannot get SO_PEERGROUPS: %w", err)
	}
	return Caller{UID: u.Uid, GID: u.Gid, Groups: groups, PID: int(u.Pid)}, nil
}

// peerGroups is getsockopt(SO_PEERGROUPS), since Linux 4.13. A process may be
// in 65,536 groups.
func peerGroups(fd int) ([]uint32, error) {
	buf := make([]byte, 64*4)
	for {
		size := uint32(len(buf))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && int(size) > len(buf):
			buf = make([]byte, size)
			continue
		case errno != 0:
			return nil, errno
		}
		groups := make([]uint32, size/4)
		for i := range groups {
			groups[i] = binary.NativeEndian.Uint32(buf[4*i:])
		}
		return groups, nil
	}
}

type callerKey struct{}

func withCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf is the caller of a request. A connection that brought none is
// nobody's.
func callerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}
