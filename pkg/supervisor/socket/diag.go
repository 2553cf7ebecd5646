package socket

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// unixQueue asks sock_diag(7), the only one who knows the queue of a unix
// listener. Where the kernel is built without it both are -1; it is then asked
// once only, since it looks for a module each time.
func unixQueue(fd int) (queue, limit int) {
	var st unix.Stat_t
	if noDiag.Load() || unix.Fstat(fd, &st) != nil {
		return -1, -1
	}
	answer, err := askDiag(uint32(st.Ino))
	switch {
	case err == unix.EPROTONOSUPPORT:
		noDiag.Store(true)
		return -1, -1
	case err != nil:
		return -1, -1
	}
	if queue, limit = parseDiag(answer); limit < 0 {
		noDiag.Store(true)
	}
	return queue, limit
}

var noDiag atomic.Bool

const (
	sockDiagByFamily = 20   // SOCK_DIAG_BY_FAMILY
	showQueue        = 0x10 // UDIAG_SHOW_RQLEN
	attributeQueue   = 4    // UNIX_DIAG_RQLEN
	headerLen        = unix.SizeofNlMsghdr
	requestLen       = headerLen + 24 // struct unix_diag_req
	replyLen         = headerLen + 16 // struct unix_diag_msg
)

// askDiag sends one request and takes one answer, which the kernel has made by
// the time that send returns: nothing waits here.
func askDiag(inode uint32) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequest(inode), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

func diagRequest(inode uint32) []byte {
	b := make([]byte, requestLen)
	e := binary.NativeEndian
	e.PutUint32(b, requestLen)
	e.PutUint16(b[4:], sockDiagByFamily)
	e.PutUint16(b[6:], unix.NLM_F_REQUEST)
	req := b[headerLen:]
	req[0] = unix.AF_UNIX
	e.PutUint32(req[4:], ^uint32(0)) // udiag_states
	e.PutUint32(req[8:], inode)
	e.PutUint32(req[12:], showQueue)
	e.PutUint64(req[16:], ^uint64(0)) // udiag_cookie: any
	return b
}

// parseDiag finds the queue among the attributes of the answer.
func parseDiag(b []byte) (queue, limit int) {
	e := binary.NativeEndian
	if len(b) < replyLen || e.Uint16(b[4:]) != sockDiagByFamily {
		return -1, -1
	}
	for b = b[replyLen:]; len(b) >= 4; {
		size, kind := int(e.Uint16(b)), e.Uint16(b[2:])
		if size < 4 || size > len(b) {
			break
		}
		if kind == attributeQueue && size >= 12 {
			return int(e.Uint32(b[4:])), int(e.Uint32(b[8:]))
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return -1, -1
}
