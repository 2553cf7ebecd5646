package unit

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
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

// Doors returns the sockets that the service needs, sorted by name, and within one
// name the newest generation's first. These are the sockets that a living process was
// started with, and those that a process needs which is due or which the rollout is
// about to start.
func (s Service) Doors() []Door { return s.doors(s.needs()) }

func (s Service) doors(needs []need) (doors []Door) {
	for _, n := range needs {
		for _, k := range s.spec(n.gen).Sockets {
			if k, err := k.Of(n.inst); err == nil {
				doors = append(doors, Door{k, n.serves && (!n.own || isOwn(k))})
			}
		}
	}
	return arrange(doors)
}

func isOwn(k *Socket) bool { _, i := SplitSocket(k.Name); return i >= 0 }

// arrange sorts by name and leaves each socket in once.
func arrange(doors []Door) (all []Door) {
	slices.SortStableFunc(doors, func(a, b Door) int { return strings.Compare(a.Socket.Name, b.Socket.Name) })
	for len(doors) > 0 {
		n := slices.IndexFunc(doors, func(d Door) bool { return d.Socket.Name != doors[0].Socket.Name })
		if n < 0 {
			n = len(doors)
		}
		all = append(all, unite(doors[:n])...)
		doors = doors[n:]
	}
	return all
}

// unite is for doors of one name: all are open if one of them is.
func unite(doors []Door) (all []Door) {
	open := slices.ContainsFunc(doors, func(d Door) bool { return d.Open })
	for _, d := range doors {
		if !slices.ContainsFunc(all, func(o Door) bool { return sameSocket(o.Socket, d.Socket) }) {
			all = append(all, Door{d.Socket, open})
		}
	}
	return all
}

// sameSocket compares by value: what was restored is not where it was.
func sameSocket(a, b *Socket) bool { return a == b || reflect.DeepEqual(a, b) }

// needs lists who needs sockets, the newest generation first. What leaves still takes
// clients until it is gone. What does not go takes none.
func (s Service) needs() (all []need) {
	if !slices.ContainsFunc(s.Builds, func(b Build) bool { return len(b.Spec.Sockets) > 0 }) {
		return nil
	}
	all = make([]need, 0, 8)
	for i, p := range s.located() {
		all = append(all, need{p.Gen, i, p.Phase != Stuck, s.Inst[i].Surplus})
	}
	for i := range s.Inst {
		all = append(all, s.coming(i)...)
	}
	slices.SortStableFunc(all, func(a, b need) int { return cmp.Compare(b.gen, a.gen) })
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
	return arrange(slices.Concat(is, was))
}

func sameDoors(a, b []Door) bool {
	return slices.EqualFunc(a, b, func(a, b Door) bool { return a.Open == b.Open && sameSocket(a.Socket, b.Socket) })
}
