package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Two sockets cannot have one address. Nor can one have all addresses of a
// machine at a port, and another one of them; [::] has those of IPv4 as well,
// unless it is told otherwise.

// A bound is an address that somebody wants.
type bound struct {
	unit.Address
	from   cursor
	v6Only bool
}

// A port is what is wanted at one number, or at one path: enough of it to know
// what else cannot be had, however many there are.
type port struct {
	same     map[netip.Addr]bound // by host
	first    map[bool]bound       // any, by whether it is IPv6
	wildcard map[bool]bound
}

// ports are those that somebody wants, by what their addresses have in common.
type ports map[unit.Address]*port

// checkAddresses finds addresses that cannot be bound together: those of sockets,
// the one of metrics, and that of the control socket. Who is set aside for one of
// its addresses leaves the others to those that follow.
func (l *load) checkAddresses() {
	all := ports{}
	control := filepath.Join(l.config.Manager.RuntimeDirectory, ControlSocket)
	for _, b := range []bound{
		{unit.Address{Network: "unix", Path: control}, l.manager.child("runtime_directory", nil), false},
		{l.config.Manager.MetricsListen, l.manager.child("metrics_listen", nil), false},
	} {
		all.judge(b)
		all.keep(b)
	}
	for _, s := range l.standingSockets() {
		wanted, own := s.wanted(), ports{}
		for _, b := range wanted {
			if all.judge(b) {
				own.judge(b)
			}
			own.keep(b)
		}
		if l.aside(s.from.of) {
			continue
		}
		for _, b := range wanted {
			all.keep(b)
		}
	}
}

// wanted are all addresses of a socket, in each instance.
func (s *socket) wanted() (all []bound) {
	only := s.IPv6Only != nil && *s.IPv6Only
	for i, a := range s.Listen {
		from := s.set["listen_stream"].element(i, nil)
		for _, a := range s.each(a, from) {
			all = append(all, bound{a, from, only})
		}
	}
	return all
}

// judge says whether b can be had beside those that are kept, and notes why not.
func (all ports) judge(b bound) bool {
	p := all[b.key()]
	if b.free() || p == nil {
		return true
	}
	other, surely, ok := p.rival(b, hostIP(b.Host))
	switch {
	case surely:
		b.from.wrong("%s cannot be bound together with %s of %s (%s)", b, other, other.from.key, other.from.where())
	case ok:
		b.from.doubtful("%s can be bound together with %s of %s (%s) only if [::] does not take IPv4 as well; bind_ipv6_only = \"ipv6-only\" says so", b, other, other.from.key, other.from.where())
	}
	return !surely && !ok
}

func (all ports) keep(b bound) {
	if b.free() {
		return
	}
	p := all[b.key()]
	if p == nil {
		p = &port{map[netip.Addr]bound{}, map[bool]bound{}, map[bool]bound{}}
		all[b.key()] = p
	}
	ip := hostIP(b.Host)
	keep(p.same, ip, b)
	keep(p.first, ip.Is6(), b)
	if ip.IsUnspecified() {
		keep(p.wildcard, ip.Is6(), b)
	}
}

// free: nobody can have it first.
func (b bound) free() bool { return b.Network == "" || b.Network == "tcp" && b.Port == 0 }

func (b bound) key() unit.Address {
	return unit.Address{Network: b.Network, Port: b.Port, Path: b.Path}
}

// each is what an address is in each instance.
func (s *socket) each(a unit.Address, from cursor) (all []unit.Address) {
	if !a.PerInstance() {
		return []unit.Address{a}
	}
	for i := range max(1, s.instances) {
		b, err := a.Of(i)
		if err == nil && len(b.Path) > maxSunPath {
			err = fmt.Errorf("%s has %d bytes; a unix socket's path has at most %d", b.Path, len(b.Path), maxSunPath)
		}
		if err != nil {
			from.wrong("%v", err)
			return nil
		}
		all = append(all, b)
	}
	return all
}

func keep[K comparable](all map[K]bound, k K, b bound) {
	if _, ok := all[k]; !ok {
		all[k] = b
	}
}

// rival is one that was there before and that b cannot be bound together with:
// surely, or depending on what [::] takes.
func (p *port) rival(b bound, ip netip.Addr) (other bound, surely, ok bool) {
	if other, ok = p.same[ip]; ok {
		return other, true, true
	}
	others := p.wildcard
	if ip.IsUnspecified() {
		others = p.first
	}
	if other, ok = others[ip.Is6()]; ok {
		return other, true, true
	}
	if ip.Is4() { // [::] may have it
		other, ok = p.wildcard[true]
		return other, false, ok && !other.v6Only
	}
	other, ok = p.first[false]
	return other, false, ok && ip.IsUnspecified() && !b.v6Only
}

// hostIP is what a host means; an empty one is [::], and so, for want of another
// one, is that of a path.
func hostIP(host string) netip.Addr {
	ip, _ := netip.ParseAddr(cmp.Or(host, "::"))
	return ip
}
