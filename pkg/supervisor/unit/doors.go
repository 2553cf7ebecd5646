package unit

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
)

// What sockets a service needs follows from its state, so that no rule can
// forget one: a generation has its sockets as it has its program, whatever the
// files say by now.

// A need is a process that there is or will be, as far as sockets matter.
type need struct {
	gen    Generation
	inst   int
	serves bool // clients have a reason to wait for it
	own    bool // and only at the sockets of its instance, which there is to be no more
}

// Doors are the sockets that the service needs, by name, and of one name the
// newest generation's first: those that a living process was started with, and
// those that one needs which is due, or which the rollout is to start.
func (s Service) Doors() []Door { return s.doors(s.needs()) }

func (s Service) doors(needs []need) []Door {
	all := doorway{}
	for _, n := range needs {
		for _, k := range s.spec(n.gen).Sockets {
			if k, err := k.Of(n.inst); err == nil {
				all.admit(Door{k, n.serves && (!n.own || isOwn(k))})
			}
		}
	}
	return all.arranged()
}

func isOwn(k *Socket) bool { _, i := SplitSocket(k.Name); return i >= 0 }

// A doorway collects doors by name.
type doorway map[string][]Door

// admit adds d unless it is there already; then it is open if either is.
func (all doorway) admit(d Door) {
	doors := all[d.Socket.Name]
	i := slices.IndexFunc(doors, func(o Door) bool { return sameSocket(o.Socket, d.Socket) })
	if i < 0 {
		all[d.Socket.Name] = append(doors, d)
		return
	}
	doors[i].Open = doors[i].Open || d.Open
}

// arranged are all doors sorted by name, and of one name open if one is.
func (all doorway) arranged() (sorted []Door) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		doors := all[name]
		open := slices.ContainsFunc(doors, func(d Door) bool { return d.Open })
		for _, d := range doors {
			sorted = append(sorted, Door{d.Socket, open})
		}
	}
	return sorted
}

// sameSocket compares by value: what was restored is not where it was.
func sameSocket(a, b *Socket) bool { return a == b || reflect.DeepEqual(a, b) }

// needs lists who needs sockets, the newest generation first.
func (s Service) needs() (all []need) {
	if !slices.ContainsFunc(s.Builds, func(b Build) bool { return len(b.Spec.Sockets) > 0 }) {
		return nil
	}
	for i, in := range s.Inst {
		all = append(all, in.living(i)...)
		all = append(all, s.coming(i)...)
	}
	slices.SortStableFunc(all, func(a, b need) int { return cmp.Compare(b.gen, a.gen) })
	return all
}

// living: what leaves still takes clients until it is gone. What does not go
// takes none.
func (in Instance) living(i int) (all []need) {
	for _, p := range append([]Proc{in.Main, in.Next}, in.Old...) {
		if p.ID != 0 {
			all = append(all, need{p.Gen, i, p.Phase != Stuck, in.Surplus})
		}
	}
	return all
}

// coming: a Main that is due, Next in its turn, and what the rollout would go
// back to, so that nobody takes its addresses meanwhile.
func (s Service) coming(i int) (all []need) {
	in := s.Inst[i]
	if in.Due != 0 {
		all = append(all, need{gen: in.Gen, inst: i, serves: !s.stuck(in, in.Gen)})
	}
	if s.awaits(i) {
		all = append(all, need{gen: s.goal(), inst: i, serves: true})
	}
	if s.Target != 0 && s.Roll == Forward && !in.Surplus && s.Current != 0 {
		all = append(all, need{gen: s.Current, inst: i})
	}
	return all
}

// opening and shutting are what changed in what is wanted, derived like
// [steering]. A door opens before anything else is done, so that clients queue
// for who is started then, and shuts when all else is done. Found does not know
// what was done of what was ordered.
func opening(was, either []Door, e Event) []Effect {
	if _, found := e.(Found); !found && sameDoors(either, was) {
		return nil
	}
	return []Effect{Doors{either}}
}

func shutting(either, is []Door) []Effect {
	if sameDoors(either, is) {
		return nil
	}
	return []Effect{Doors{is}}
}

// union is what is wanted in the middle of a step: what was, and what will be.
func union(was, is []Door) []Door {
	if sameDoors(was, is) {
		return is
	}
	all := doorway{}
	for _, d := range slices.Concat(is, was) {
		all.admit(d)
	}
	return all.arranged()
}

func sameDoors(a, b []Door) bool {
	return slices.EqualFunc(a, b, func(a, b Door) bool { return a.Open == b.Open && sameSocket(a.Socket, b.Socket) })
}
