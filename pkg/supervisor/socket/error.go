package socket

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A BindError says why an address cannot be listened on, and who has it. It
// wraps the cause: errors.Is(err, syscall.EADDRINUSE) and the like work.
type BindError struct {
	Socket  string // the unit
	Address string
	Err     error
	PID     int    // of a process that holds the address; 0: none is known
	UID     int    // whose that is, or the socket; -1: not known
	Command string // its command, unverified; may be empty
}

// Error is `cannot bind ADDRESS: cause`, with the holder if there is one.
func (e *BindError) Error() string {
	text := fmt.Sprintf("cannot bind %s: %s", e.Address, e.Err)
	switch {
	case e.PID == os.Getpid() && e.Command != "":
		return fmt.Sprintf("%s by supervisord itself (%s)", text, e.Command)
	case e.PID == os.Getpid():
		return text + " by supervisord itself"
	case e.PID > 0 && e.Command != "":
		return fmt.Sprintf("%s by pid %d (%s)", text, e.PID, e.Command)
	case e.PID > 0:
		return fmt.Sprintf("%s by pid %d", text, e.PID)
	case e.UID >= 0:
		return fmt.Sprintf("%s by a process of uid %d", text, e.UID)
	}
	return text
}

func (e *BindError) Unwrap() error { return e.Err }

// Hint is what to do about it; empty where there is nothing to say.
func (e *BindError) Hint() string {
	path := strings.HasPrefix(e.Address, "/")
	var dir *directoryError
	var knows interface { // the error of an OwnerFunc
		error
		Hint() string
	}
	switch {
	case errors.As(e.Err, &knows):
		return knows.Hint()
	case errors.Is(e.Err, unix.EADDRINUSE) && e.PID == os.Getpid():
		return "two sockets of the configuration want the same address, or a service still has it that must be restarted to take another"
	case errors.Is(e.Err, unix.EADDRINUSE) && path && e.PID == 0:
		return "remove what is there, or choose another path"
	case errors.Is(e.Err, unix.EADDRINUSE):
		return "stop that process, or listen elsewhere"
	case errors.Is(e.Err, unix.EADDRNOTAVAIL):
		return "no interface has this address; free_bind = true binds it before one does"
	case errors.Is(e.Err, unix.EAFNOSUPPORT):
		return "this machine has no IPv6; listen on an IPv4 address"
	case errors.As(e.Err, &dir) && errors.Is(e.Err, unix.ENOENT):
		return "make the directory first: supervisord makes one only where nobody else can replace it"
	case errors.As(e.Err, &dir):
		return fmt.Sprintf("make the directory first and give it to uid %d, or choose another path", os.Geteuid())
	case errors.Is(e.Err, unix.EACCES) && !path && e.privileged():
		return fmt.Sprintf("ports below %d need root or CAP_NET_BIND_SERVICE; choose a higher one", firstFreePort())
	}
	return ""
}

func (e *BindError) privileged() bool {
	port, err := strconv.Atoi(e.Address[strings.LastIndex(e.Address, ":")+1:])
	return err == nil && port < firstFreePort()
}

func firstFreePort() int {
	text, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if port, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		return port
	}
	return 1024
}

// An occupiedError is a unix path that is not ours to take.
type occupiedError struct {
	what   string // in words; empty: somebody is there
	holder holder
}

func (e *occupiedError) Error() string {
	if e.what != "" {
		return e.what
	}
	return unix.EADDRINUSE.Error()
}

func (e *occupiedError) Unwrap() error { return unix.EADDRINUSE }

// bindError adds to a cause who has the address, as far as that can be seen.
func bindError(name string, a unit.Address, err error) *BindError {
	h := nobody
	var occupied *occupiedError
	switch {
	case errors.As(err, &occupied):
		h = occupied.holder
	case errors.Is(err, unix.EADDRINUSE):
		h = whoHas(a)
	}
	return &BindError{Socket: name, Address: a.String(), Err: err, PID: h.pid, UID: h.uid, Command: h.command}
}
