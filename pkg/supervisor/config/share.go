package config

import (
	"slices"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// MaxSteered is how many processes can have a steered socket at a time: the kernel's
// table has 1,024 places, and one is for clients who wait for nobody in particular.
const MaxSteered = 1023

// share checks what services and sockets say of who gets a connection. Only one
// service can have a socket that is not the same for all processes: what is to be
// steered, and what each instance has for itself. None of this depends on what
// supervisord may do: a file that is right on one machine is right on all.
func (l *load) share() {
	owner := map[string]*service{}
	for _, s := range l.standingServices() {
		var steered []*socket
		for i, name := range s.sockets {
			k := l.sockets[name]
			if k == nil || !k.toSteer() && !k.PerInstance() {
				continue
			}
			if other := owner[name]; other != nil && other != s {
				s.set["sockets"].element(i, nil).wrong("[socket.%s] is for one service only, since its connections are given to processes one by one, and [service.%s] has it already; write a socket for each", name, other.Name)
				continue
			}
			owner[name] = s
			k.instances = s.Life.Instances
			if k.toSteer() {
				steered = append(steered, k)
				s.checkCrowd(i, name)
			}
			s.Life.Steer = s.Life.Steer || k.Steer && k.hasTCP()
		}
		s.checkCanary(steered, l.o)
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

// Crowd is how many processes of a service there can be at a time by its
// configuration, with so many instances.
func Crowd(l unit.Life, instances int) int { return instances + l.Surge + l.MaxDraining }

// checkCrowd is about the socket at i in the list of s.
func (s *service) checkCrowd(i int, name string) {
	if n := Crowd(s.Life, s.Life.Instances); n > MaxSteered {
		s.set["sockets"].element(i, nil).wrong("[socket.%s] is steered, which %d processes can be: instances, max_surge and max_draining make %d; lower one of them, or write steer = \"off\"", name, MaxSteered, n)
	}
}

// Values of steer.
const (
	steerAuto        = "auto"
	steerOff         = "off"
	steerConnections = "connections"
)

// steer decides for each socket whether it is to be steered, where nobody has: if it is
// all for the one process of a service, or if there is to be a canary. Of several
// processes with a queue each, a busy one would keep its clients waiting while another is
// idle. The number is the file's: a queue does not come and go with superctl scale.
func (l *load) steer() {
	users := map[string][]*service{}
	for _, s := range l.standingServices() {
		for _, name := range s.sockets {
			users[name] = append(users[name], s)
		}
	}
	for _, name := range l.socketNames {
		s := l.sockets[name]
		if s.steer == steerAuto {
			s.choose(users[name])
		}
		s.setSteer(l.o)
	}
}

// choose replaces "auto".
func (s *socket) choose(users []*service) {
	s.steer = steerOff
	if len(users) != 1 || !s.hasTCP() {
		return
	}
	l := users[0].Life
	alone := l.Instances == 1 && Crowd(l, 1) <= MaxSteered
	if alone || l.Canary > 0 {
		s.steer, s.unasked = steerConnections, l.Canary == 0
	}
}

// toSteer says what is wished, possible or not.
func (s *socket) toSteer() bool { return s.steer == steerConnections }

func (s *socket) hasTCP() bool {
	return slices.ContainsFunc(s.Listen, func(a unit.Address) bool { return a.Network == "tcp" })
}

// setSteer: where steering is not to be had, the socket is shared, and says why.
func (s *socket) setSteer(o Options) {
	s.Steer = s.toSteer()
	switch {
	case !s.Steer || !s.hasTCP() || o.Unsteerable == "":
		return
	case s.unasked: // whoever has not asked need not be told
		s.Steer = o.Check
		return
	}
	at, written := s.set["steer"]
	if !written { // it follows from a canary
		at = s.set["listen_stream"]
	}
	if o.Check {
		at.doubtful("where supervisord can do no more than this check, all processes share it: %s", o.Unsteerable)
		return
	}
	s.Steer, s.Unsteered = false, o.Unsteerable
	at.doubtful("shared, as if it were \"off\": %s", o.Unsteerable)
}

// checkCanary: a share can only be given where somebody deals. steered are the sockets
// of s that are to be.
func (s *service) checkCanary(steered []*socket, o Options) {
	c, ok := s.set["reload.canary"]
	if !ok || s.Life.Canary == 0 {
		return
	}
	i := slices.IndexFunc(steered, (*socket).hasTCP)
	switch {
	case i < 0:
		c.wrong("only steered sockets can give a process a share, and this service has none; write steer = \"connections\" in the socket, or leave it out")
	case !s.Life.Steer:
		c.doubtful("%d%% is not possible: [socket.%s] is shared, so a new process gets connections like the others as soon as it accepts them", s.Life.Canary, steered[i].Name)
	case o.Unsteerable != "":
		c.doubtful("%d%% is not possible where [socket.%s] cannot be steered: a new process then gets connections like the others as soon as it accepts them", s.Life.Canary, steered[i].Name)
	}
}

func (s *service) checkShare() {
	if c, ok := s.set["reload.max_surge"]; ok && s.Life.Surge > 1 && !s.Life.Overlap {
		c.wrong("more than one at a time would take more than one instance away, since mode \"restart\" ends the old process first; leave it out")
	}
	if c, ok := s.set["handover"]; ok && s.Hand && (!s.Life.Overlap || len(s.sockets) == 0) {
		c.wrong("there is no process to pass connections on to: it needs sockets, and a reload by overlap; leave it out")
	}
}
