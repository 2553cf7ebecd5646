package config

import (
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// share checks what services and sockets say of who gets a connection. Only one
// service can have a socket that is not the same for all processes: what is
// steered, and what each instance has for itself.
func (l *load) share() {
	owner := map[string]*service{}
	for _, s := range l.standingServices() {
		for i, name := range s.sockets {
			k := l.sockets[name]
			if k == nil || !k.Steer && !k.PerInstance() {
				continue
			}
			if other := owner[name]; other != nil && other != s {
				s.set["sockets"].element(i, nil).wrong("[socket.%s] is for one service only, since its connections are given to processes one by one, and [service.%s] has it already; write a socket for each", name, other.Name)
				continue
			}
			owner[name] = s
			k.instances = s.Life.Instances
			if k.Shards = s.Life.Instances + s.Life.Surge + s.Life.MaxDraining; k.Steer && k.Shards > unit.MaxShards {
				s.set["sockets"].element(i, nil).wrong("[socket.%s] is steered, which %d processes can be: instances, max_surge and max_draining make %d; lower one of them, or write steer = \"off\"", name, unit.MaxShards, k.Shards)
			}
			s.Life.Steer = s.Life.Steer || k.Steer && slices.ContainsFunc(k.Listen, func(a unit.Address) bool { return a.Network == "tcp" })
		}
		s.checkShare()
		if l.aside(s.from.of) {
			for _, name := range s.sockets { // another one can have them
				if owner[name] == s {
					delete(owner, name)
				}
			}
		}
	}
}

func (s *service) checkShare() {
	if c, ok := s.set["reload.canary"]; ok && s.Life.Canary > 0 && !s.Life.Steer {
		c.wrong("only steered sockets can give a process a share, and this service has none; write steer = \"connections\" in the socket, or leave it out")
	}
	if c, ok := s.set["reload.max_surge"]; ok && s.Life.Surge > 1 && !s.Life.Overlap {
		c.wrong("more than one at a time would take more than one instance away, since mode \"restart\" ends the old process first; leave it out")
	}
	if c, ok := s.set["handover"]; ok && s.Hand && (!s.Life.Overlap || len(s.sockets) == 0) {
		c.wrong("there is no process to pass connections on to: it needs sockets, and a reload by overlap; leave it out")
	}
}
