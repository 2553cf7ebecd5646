package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// The kernel shows nowhere which place a socket has in its group. So it is asked
// by a probe: a SYN that the program sends to one place, whoever the program
// would send there else. The shard that has the place drops the probe by its
// filter, and counts it. No worker sees anything.

// errProbe says that a probe was not seen anywhere.
var errProbe = errors.New("a probe did not arrive; is local traffic to this address dropped?")

// probeTime bounds the wait for a probe. It takes microseconds, but the kernel
// may be busy.
const probeTime = 200 * time.Millisecond

// errBlind says that the kernel does not let us filter, so probes would be
// clients.
var errBlind = errors.New("places cannot be asked for without filters")

// learn finds out the place of every shard, all of which listen.
func (r *ring) learn() error {
	if !r.filtered {
		return errBlind
	}
	at, err := r.doorstep()
	if err != nil {
		return err
	}
	placed := map[*shard]int{}
	for place := 1; place <= len(r.shards); place++ {
		s, err := r.locate(at, place)
		if err != nil {
			return fmt.Errorf("cannot find out which socket has place %d: %w", place, err)
		}
		placed[s] = place
	}
	if len(placed) != len(r.shards) {
		return fmt.Errorf("%d sockets share %d places: somebody changes them", len(r.shards), len(placed))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, place := range placed {
		s.place = place
	}
	r.unsure = false
	return nil
}

// locate finds the shard at a place. Another one may drop a client at the same
// moment; then it is tried again.
func (r *ring) locate(at unix.Sockaddr, place int) (*shard, error) {
	if err := r.attachProgram(probing(r.mark, place, r.program())); err != nil {
		return nil, err
	}
	const tries = 5
	for range tries {
		before := r.counts()
		if err := r.probe(at); err != nil {
			return nil, err
		}
		hit := r.arrived(before)
		for _, s := range hit {
			if len(hit) == 1 {
				r.mu.Lock()
				s.probes++
				r.mu.Unlock()
				return s, nil
			}
		}
		if len(hit) == 0 {
			return nil, errProbe
		}
	}
	return nil, errors.New("its clients overflow their queues all the time")
}

func (r *ring) counts() (n []uint64) {
	for _, s := range r.shards {
		n = append(n, drops(s.fd))
	}
	return n
}

// arrived waits until some shard has dropped a packet, and lists which.
func (r *ring) arrived(before []uint64) (hit []*shard) {
	for end := time.Now().Add(probeTime); len(hit) == 0 && time.Now().Before(end); {
		for i, n := range r.counts() {
			if n != before[i] {
				hit = append(hit, r.shards[i])
			}
		}
		if len(hit) == 0 {
			unix.Poll(nil, 1)
		}
	}
	return hit
}

// probe sends one SYN from the address to itself. The socket is closed before
// the kernel would send it again.
func (r *ring) probe(to unix.Sockaddr) error {
	family, level, class, hops := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
	from := unix.Sockaddr(&unix.SockaddrInet4{})
	switch to := to.(type) {
	case *unix.SockaddrInet4:
		from = &unix.SockaddrInet4{Addr: to.Addr}
	case *unix.SockaddrInet6:
		family, level, class, hops = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
		from = &unix.SockaddrInet6{Addr: to.Addr}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = errors.Join(
		unix.SetsockoptInt(fd, level, class, int(r.mark.class)),
		unix.SetsockoptInt(fd, level, hops, int(r.mark.hops)),
		unix.Bind(fd, from))
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, to); err != unix.EINPROGRESS {
		return errors.Join(errProbe, err)
	}
	return nil
}

// doorstep is where a probe goes: the address itself, or one of this machine for
// a socket that listens on all.
func (r *ring) doorstep() (unix.Sockaddr, error) {
	a := r.where()
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		return nil, err
	}
	if !ip.IsUnspecified() {
		return sockaddr(a)
	}
	host := "127.0.0.1"
	if only, err := unix.GetsockoptInt(r.anchor.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); ip.Is6() && err == nil && only == 1 {
		host = "::1"
	}
	return sockaddr(unit.Address{Network: "tcp", Host: host, Port: a.Port})
}
