package unit

import (
	"reflect"
	"slices"
)

func (f Steer) names(id Invocation) bool {
	return slices.ContainsFunc(f.Shares, func(h Share) bool { return h.ID == id })
}

// steeringIsOrdered: shares change before anybody is started, told to go or
// forgotten, and never to what they are.
func steeringIsOrdered(s Service, e Event, to Service, effects []Effect) string {
	last := s.steer()
	_, found := e.(Found)
	for i, f := range effects {
		steer, ok := f.(Steer)
		_, doors := effects[0].(Doors)
		switch {
		case !ok && to.steered():
			if why := last.forbids(f, to); why != "" {
				return why
			}
			continue
		case !ok:
			continue
		case !to.steered():
			return "what is not steered is left alone"
		case i > 1 || i == 1 && !doors:
			return "only doors open before shares change"
		case steer.same(last) && !found:
			return "who gets new connections is ordered when that changes"
		}
		last = steer
	}
	if to.steered() && !last.same(to.steer()) {
		return "who gets new connections is ordered"
	}
	return ""
}

// forbids says why an effect may not follow on f.
func (f Steer) forbids(e Effect, to Service) string {
	switch e := e.(type) {
	case Spawn:
		if (Steer{Shares: to.Shares()}).names(e.ID) && !f.names(e.ID) {
			return "the only process has its clients before it is started"
		}
	case Signal:
		if e.Leave && f.names(e.ID) {
			return "who is told to go has no share"
		}
	case Forget:
		if f.names(e.ID) {
			return "who is forgotten has no share"
		}
	}
	return ""
}

// sharesAreRight: they are for who is ready, or where nobody is for the only Main that
// comes up.
func sharesAreRight(_ Service, _ Event, to Service, _ []Effect) string {
	ready, coming := to.candidates()
	shares, may := to.Shares(), ready
	if len(ready) == 0 && len(coming) == 1 {
		may = coming
	}
	var seen tally
	for _, h := range shares {
		if seen.add(h.ID); seen.of(h.ID) > 1 || h.Weight <= 0 || !slices.Contains(may, h.ID) || !to.steered() {
			return "only those who can serve get new connections, once each"
		}
	}
	switch {
	case !to.steered():
	case len(may) > 0 && len(shares) == 0:
		return "whoever serves alone has a share"
	case to.Closed() && len(shares) > 0:
		return "nobody has a share of what is closed"
	}
	return ""
}

// candidates are who is ready to take clients, and who comes up as Main.
func (s Service) candidates() (ready, coming []Invocation) {
	for _, in := range s.Inst {
		switch {
		case in.Main.ID == 0 || in.Main.Stopping:
		case in.Main.Phase == Baking, in.Main.Phase == Serving:
			ready = append(ready, in.Main.ID)
		default:
			coming = append(coming, in.Main.ID)
		}
		if in.Next.Phase == Baking {
			ready = append(ready, in.Next.ID)
		}
	}
	return ready, coming
}

// stopRefusesFirst: clients of what stops are refused before anybody is told, and
// those of what starts again wait.
func stopRefusesFirst(_ Service, e Event, to Service, effects []Effect) string {
	a, asked := e.(Asks)
	if !asked || !to.steered() || to.Job.ID != a.Job.ID {
		return ""
	}
	stuck := slices.ContainsFunc(processes(to), func(p Proc) bool { return p.Phase == Stuck })
	switch {
	case a.Job.Verb.leaves() && !to.Closed(): // that it is ordered before is looked at elsewhere
		return "what is stopped is closed from the first step"
	case a.Job.Verb == Restart && to.Closed() && !stuck:
		return "what is restarted is never closed"
	}
	return ""
}

// settlesInPeace: whoever settles is told when it hangs, or when its time is over and
// nobody waits for it. News that are none change nothing.
func settlesInPeace(s Service, e Event, to Service, _ []Effect) string {
	news, ok := e.(Traffic)
	if ok {
		if again, more := Step(to, now, e); len(more) > 0 || !reflect.DeepEqual(again, to) {
			return "what is told twice changes nothing"
		}
	}
	for p := range s.Procs() {
		q := to.Find(p.ID)
		if !p.Phase.Settles() || q.ID == 0 {
			continue
		}
		told, late := !q.Phase.Settles(), p.Phase == Emptying
		switch hangs := news.Waiting > 0 && now-news.Taken >= Time(HungAfter); {
		case !ok || news.ID != p.ID:
		case hangs && !told:
			return "one that hangs is told at once"
		case !hangs && told != (late && news.Waiting == 0):
			return "one that does not hang has its time"
		case !told && !late && q.Empty != (news.Waiting == 0):
			return "it is known whether somebody waits"
		}
		if _, elapsed := e.(Elapsed); elapsed && p.due(now) && told != (late || p.Empty || s.life(p.Gen).Empty == 0) {
			return "whoever waits has some time more"
		}
	}
	return ""
}
