package socket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Handshakes in flight belong to no socket that we hold: sock_diag(7) lists them
// by port. Each has a cookie, which is never used again.

const (
	showSynRecv  = 1 << 3             // TCPF_SYN_RECV
	inetRequest  = headerLen + 56     // struct inet_diag_req_v2
	inetReply    = headerLen + 72     // struct inet_diag_msg
	inetCookie   = headerLen + 4 + 40 // id.idiag_cookie in it
	maxHandshake = 1 << 16            // a flood is not waited for to its last packet
)

// handshakes is the set of those at the unit's steered ports; nil if the kernel
// does not tell.
func (g *group) handshakes() map[uint64]bool {
	all := map[uint64]bool{}
	for _, r := range g.rings() {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			if err := listHandshakes(family, r.where().Port, all); err != nil {
				return nil
			}
		}
	}
	return all
}

// listHandshakes adds those of one port to the set, up to its limit.
func listHandshakes(family byte, port int, set map[uint64]bool) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, handshakeRequest(family, port), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b := make([]byte, 1<<15)
	for len(set) < maxHandshake {
		// The kernel makes each part of its answer when the one before is taken.
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return err
		}
		if done, err := parseHandshakes(b[:n], set); done || err != nil {
			return err
		}
	}
	return nil
}

func handshakeRequest(family byte, port int) []byte {
	b := make([]byte, inetRequest)
	e := binary.NativeEndian
	e.PutUint32(b, inetRequest)
	e.PutUint16(b[4:], sockDiagByFamily)
	e.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req := b[headerLen:]
	req[0], req[1] = family, unix.IPPROTO_TCP
	e.PutUint32(req[4:], showSynRecv)
	binary.BigEndian.PutUint16(req[8:], uint16(port))
	return b
}

// parseHandshakes takes one part of an answer, and says whether it was the last.
func parseHandshakes(b []byte, set map[uint64]bool) (done bool, err error) {
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
		case kind == sockDiagByFamily && size >= inetReply:
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
