package socket

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// Handshakes in flight belong to no socket that we hold: sock_diag(7) lists them
// by port. Each has a cookie, which is never used again.
//
// The kernel walks all connections of the machine for such a list, which takes
// more than a millisecond where memory is large, in the middle of a reload. So it
// is asked once for all ports of a unit, by the older of its two requests, which
// knows no address family: a port of both has handshakes of either.

const (
	tcpDiagGetSock = 18             // TCPDIAG_GETSOCK
	showSynRecv    = 1 << 3         // TCPF_SYN_RECV
	inetRequest    = headerLen + 60 // struct inet_diag_req
	requestPort    = 4              // id.idiag_sport in it
	requestStates  = 52             // idiag_states in it
	inetReply      = headerLen + 72 // struct inet_diag_msg
	inetPort       = headerLen + 4  // id.idiag_sport in it
	inetCookie     = inetPort + 40  // id.idiag_cookie in it
	maxHandshake   = 1 << 16        // a flood is not waited for to its last packet
)

// handshakes is the set of those at the unit's steered ports; nil if the kernel
// does not tell.
func (g *group) handshakes() map[uint64]bool {
	var ports []int
	for _, r := range g.rings() {
		ports = append(ports, r.where().Port)
	}
	slices.Sort(ports)
	all, err := listHandshakes(slices.Compact(ports))
	if err != nil {
		return nil
	}
	return all
}

// listHandshakes returns those of some ports, up to a limit.
func listHandshakes(ports []int) (map[uint64]bool, error) {
	set := map[uint64]bool{}
	if len(ports) == 0 {
		return set, nil
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, handshakeRequest(ports), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	b := make([]byte, 1<<15)
	for len(set) < maxHandshake {
		// The kernel makes each part of its answer when the one before is taken.
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil, err
		}
		if done, err := parseHandshakes(b[:n], ports, set); done || err != nil {
			return set, err
		}
	}
	return set, nil
}

// handshakeRequest asks for those of one port, or of all if there are several.
func handshakeRequest(ports []int) []byte {
	b := make([]byte, inetRequest)
	e := binary.NativeEndian
	e.PutUint32(b, inetRequest)
	e.PutUint16(b[4:], tcpDiagGetSock)
	e.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req := b[headerLen:]
	if len(ports) == 1 {
		binary.BigEndian.PutUint16(req[requestPort:], uint16(ports[0]))
	}
	e.PutUint32(req[requestStates:], showSynRecv)
	return b
}

// parseHandshakes takes one part of an answer, and says whether it was the last.
func parseHandshakes(b []byte, ports []int, set map[uint64]bool) (done bool, err error) {
	e := binary.NativeEndian
	for len(b) >= headerLen {
		size, kind := int(e.Uint32(b)), e.Uint16(b[4:])
		switch {
		case size < headerLen || size > len(b):
			return true, unix.EBADMSG
		case kind == unix.NLMSG_DONE:
			return true, nil
		case kind == unix.NLMSG_ERROR:
			return true, diagError(b[headerLen:size])
		case kind == tcpDiagGetSock && size >= inetReply && slices.Contains(ports, int(binary.BigEndian.Uint16(b[inetPort:]))):
			set[e.Uint64(b[inetCookie:])] = true
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

// diagError is what struct nlmsgerr says.
func diagError(b []byte) error {
	if len(b) < 4 {
		return unix.EBADMSG
	}
	if n := int32(binary.NativeEndian.Uint32(b)); n < 0 {
		return unix.Errno(-n)
	}
	return unix.EBADMSG
}
