package unit

import "slices"

// Who gets new connections of a service that is steered follows from its state, so
// that no rule can forget anybody. Whoever waits in the queues of a process that ends
// moves to who has a share by then; so shares change before anything else is done.

// Shares says who gets new connections. Instances share alike. While nobody is ready,
// a Main that comes up gets them if it is the only one, so that whoever waits is with it
// before it even runs. Of several nobody knows which will be ready first, and whoever
// is with another would have to wait for that one.
func (s Service) Shares() (shares []Share) {
	if !s.steered() {
		return nil
	}
	for _, in := range s.Inst {
		shares = append(shares, s.divide(in)...)
	}
	if len(shares) > 0 {
		return shares
	}
	for _, in := range s.Inst {
		if in.Main.stays() {
			shares = append(shares, Share{in.Main.ID, 100})
		}
	}
	if len(shares) > 1 {
		return nil
	}
	return shares
}

// steered is asked of the service and not of each process: where steer has changed,
// one of a build without it may have the queues of one with it, and serves there.
func (s Service) steered() bool {
	return slices.ContainsFunc(s.Builds, func(b Build) bool { return b.Spec.Life.Steer })
}

// divide: Main of an instance gets them, less what Next is tried with, but not when
// it has said that it leaves or has a dead socket.
func (s Service) divide(in Instance) (shares []Share) {
	ready, canary := in.Main.stays() && in.Main.Phase >= Baking, 0
	switch {
	case in.Next.Phase != Baking:
	case !ready || in.Main.Ruined != "":
		canary = 100
	default:
		canary = s.life(in.Next.Gen).Canary
	}
	if ready && canary < 100 {
		shares = append(shares, Share{in.Main.ID, 100 - canary})
	}
	if canary > 0 {
		shares = append(shares, Share{in.Next.ID, canary})
	}
	return shares
}

// stays: p is there, and has not said that it leaves.
func (p Proc) stays() bool { return p.ID != 0 && !p.Stopping }

// Closed reports whether nobody gets new connections and, as things are, nobody will.
// If only nobody does yet, clients are to wait.
func (s Service) Closed() bool {
	for i := range s.Inst {
		if s.willServe(i) {
			return false
		}
	}
	return s.steered()
}

// willServe: in instance i there is somebody to get new connections, or there will be.
func (s Service) willServe(i int) bool {
	in := s.Inst[i]
	switch {
	case in.Next.ID != 0, in.Main.stays(), s.returns(in.Main):
		return true
	case in.Due != 0 && !s.stuck(in, in.Gen):
		return true
	}
	return s.awaits(i) && !s.stuck(in, s.goal())
}

// returns: p leaves of its own accord, and another is to follow if it leaves well,
// which before it was ready is a failure all the same.
func (s Service) returns(p Proc) bool {
	end := Success
	if p.Phase < Baking {
		end = Protocol
	}
	return p.Stopping && !s.Removed && follows[s.life(p.Gen).Restart](end)
}

// steering is what changed in who gets new connections. It comes first, so that
// nobody is started, signalled or forgotten before. Found does not know what was done
// of what was ordered.
func steering(before, after Service, e Event) []Effect {
	_, found := e.(Found)
	is := after.steer()
	if !after.steered() || !found && is.same(before.steer()) {
		return nil
	}
	return []Effect{is}
}

func (s Service) steer() Steer { return Steer{s.Shares(), s.Closed()} }

func (f Steer) same(g Steer) bool { return slices.Equal(f.Shares, g.Shares) && f.Closed == g.Closed }
