package unit

import (
	"fmt"
	"slices"
	"syscall"
)

// What must hold on every transition.
var invariants = []func(s Service, e Event, to Service, effects []Effect) string{
	mainUntouched, effectsNameTheLiving, procsAreKept, jobsAreKept, neverForgotten, currentIsGood, nextHasItsTurn,
	rolesAndPhases, placesAreBounded, aloneIsAlone, wantIsObeyed, killIsLast, buildsAreKept,
	answersAreTrue, crashIsMadeGood, doorsAreOrdered, doorsAreKept, endIsTheEnd, removedIsLeft, vanishesOnce, ruinedIsReplaced,
	numbersGrow, scaleWakesNobody, steeringIsOrdered, sharesAreRight, stopRefusesFirst, settlesInPeace, foundAsItWas,
}

func mainUntouched(s Service, e Event, to Service, effects []Effect) string {
	for i, in := range s.Inst {
		if in.Main.ID == 0 || i < len(to.Inst) && to.Inst[i].Main.ID == in.Main.ID {
			continue
		}
		a, asked := e.(Asks)
		_, found := e.(Found)
		switch {
		case asked && (a.Job.Verb.leaves() || a.Job.Verb == Restart || in.Main.Stopping):
		case to.Size > 0 && i >= to.Size && (asked && a.Job.Verb == Scale || to.Size != s.Size):
		case to.Inst[i].Done && about(e) == in.Next.ID: // a oneshot's work is its bake
		case to.Inst[i].Main.ID != 0 && to.Inst[i].Main.ID == in.Next.ID && in.Next.Phase == Baking:
		case in.Main.due(now), found, about(e) == in.Main.ID:
		case to.Target != 0 && to.alone(in.Gen, to.goal()):
		case in.Main.Renew != 0 && in.Main.Renew <= now || brokenNow(e, in.Main): // its socket is dead
			if to.life(in.Gen).Overlap {
				return "what is ruined is replaced by overlap, where it can"
			}
		default:
			return "Main is never told to go before Next has baked"
		}
	}
	for _, f := range effects {
		_, kill := e.(Kills)
		f, ok := f.(Signal)
		switch {
		case ok && to.Find(f.ID).Phase <= Serving && f.Leave:
			return "only those who leave are signalled"
		case ok && f.Leave == kill:
			return "an operator's signal dooms nobody, any other does"
		}
	}
	return ""
}

func about(e Event) Invocation {
	switch e := e.(type) {
	case Started:
		return e.ID
	case NotStarted:
		return e.ID
	case Said:
		return e.ID
	case Exited:
		return e.ID
	case Gone:
		return e.ID
	}
	return 0
}

func effectsNameTheLiving(_ Service, _ Event, to Service, effects []Effect) string {
	for _, f := range effects {
		id := Invocation(0)
		switch f := f.(type) {
		case Spawn:
			id = f.ID
		case Signal:
			id = f.ID
		default:
			continue
		}
		if to.Find(id).ID == 0 {
			return "no effect but Forget names a process that is forgotten"
		}
	}
	return ""
}

func procsAreKept(s Service, e Event, to Service, effects []Effect) string {
	var spawned, forgotten tally
	for _, f := range effects {
		switch f := f.(type) {
		case Spawn:
			spawned.add(f.ID)
		case Forget:
			forgotten.add(f.ID)
		}
	}
	for p := range s.Procs() {
		kept := to.Find(p.ID).ID != 0
		if kept == (forgotten.of(p.ID) == 1) || spawned.of(p.ID) != startsAgain(e, p) {
			return "a process is kept or forgotten"
		}
		_, found := e.(Found)
		_, gone := e.(Gone)
		_, not := e.(NotStarted)
		if !kept && !found && !(about(e) == p.ID && (gone || not)) {
			return "only its end makes a process forgotten"
		}
	}
	var ids tally
	for p := range to.Procs() {
		if ids.of(p.ID) > 0 || s.Find(p.ID).ID == 0 && spawned.of(p.ID) != 1 {
			return "every process is spawned once"
		}
		ids.add(p.ID)
	}
	return ""
}

type tally []Invocation

func (t *tally) add(id Invocation) { *t = append(*t, id) }

func (t tally) of(id Invocation) (n int) {
	for _, i := range t {
		if i == id {
			n++
		}
	}
	return n
}

func jobsAreKept(s Service, e Event, to Service, effects []Effect) string {
	count := map[JobID]int{}
	add := func(n int, js ...Job) {
		for _, j := range js {
			for _, id := range j.IDs() {
				count[id] += n
			}
		}
	}
	add(1, s.Job, s.Queue)
	add(-1, to.Job, to.Queue)
	if a, ok := e.(Asks); ok {
		add(1, a.Job)
	}
	for _, f := range effects {
		if f, ok := f.(Finish); ok {
			for _, id := range f.Jobs {
				count[id]--
			}
		}
	}
	for id, n := range count {
		if n != 0 && id != 0 {
			return fmt.Sprintf("job %d finishes exactly once", id)
		}
	}
	if to.Job.ID == 0 && (to.Queue.ID != 0 || to.Target != 0) {
		return "a queue or a rollout has a job"
	}
	return ""
}

// neverForgotten: something will happen, or there is nothing to happen.
func neverForgotten(_ Service, _ Event, to Service, _ []Effect) string {
	d := to.Deadline()
	if d != 0 && d <= now {
		return "the timer never spins"
	}
	for p := range to.Procs() {
		if p.By == 0 && !(p.Phase == Serving || p.Phase == Stuck) {
			return "every phase but Serving and Stuck has a deadline"
		}
		if p.By > p.Last || p.Ping != 0 && p.Phase != Baking && p.Phase != Serving {
			return "no deadline is put off for ever, and the watchdog watches what serves"
		}
	}
	if sub := to.SubState(); d == 0 && !to.lives() && sub != "dead" && sub != "failed" && sub != "exited" {
		return "every state that is not final has a process or a deadline"
	}
	for i, in := range to.Inst {
		if in.Main.ID == 0 && in.Due != 0 && in.Due <= now && to.mayFill(i) {
			return "what is due is done"
		}
	}
	return ""
}

func currentIsGood(_ Service, _ Event, to Service, _ []Effect) string {
	b := to.Build(to.Current)
	if b == nil || b.Baked {
		return ""
	}
	gens := []Generation{to.Target}
	for _, in := range to.Inst {
		gens = append(gens, in.Gen, in.Main.Gen, in.Next.Gen)
	}
	for _, c := range to.Builds {
		if c.Baked && slices.Contains(gens, c.Gen) {
			return "Current has baked, or nothing that runs or may run has"
		}
	}
	return ""
}

func nextHasItsTurn(_ Service, _ Event, to Service, _ []Effect) string {
	for i, in := range to.Inst {
		if in.Next.ID != 0 && (!to.hasTurn(i) || in.Next.Gen != to.goal()) && (in.Next.Gen != in.Gen || in.Main.Ruined == "") {
			return "Next is what the rollout waits for, or the like of a Main whose socket is dead"
		}
	}
	return ""
}

func rolesAndPhases(_ Service, _ Event, to Service, _ []Effect) string {
	for _, in := range to.Inst {
		if in.Main.ID != 0 && (in.Main.Phase > Serving || in.Main.Gen != in.Gen || in.Due != 0 || in.Done) {
			return "Main comes up or serves, with the instance's build"
		}
		if in.Done && (in.Due != 0 || to.life(in.Gen).Type != Oneshot) {
			return "what is done is not due"
		}
		if in.Next.ID != 0 && in.Next.Phase > Baking {
			return "Next comes up"
		}
		for _, p := range in.Old {
			if p.Phase < Settling {
				return "Old leaves"
			}
			if p.Empty && p.Phase != Settling {
				return "whose queue is empty is of interest while it settles"
			}
		}
	}
	return ""
}

func placesAreBounded(_ Service, _ Event, to Service, _ []Effect) string {
	for _, in := range to.Inst {
		if len(in.Old) > to.life(to.Current).MaxDraining+3 {
			return "at most max_draining + 3 leave"
		}
	}
	return ""
}

func aloneIsAlone(s Service, _ Event, to Service, effects []Effect) string {
	for _, f := range effects {
		f, ok := f.(Spawn)
		if !ok {
			continue
		}
		in := to.Inst[f.Inst]
		n := len(in.Old)
		for _, p := range []Proc{in.Main, in.Next} {
			if p.ID != 0 {
				n++
			}
		}
		if n > 1 && to.alone(in.Gen, in.Gen) {
			return "what cannot overlap has its place alone"
		}
	}
	return ""
}

func wantIsObeyed(_ Service, _ Event, to Service, _ []Effect) string {
	for _, in := range to.Inst {
		if to.Want != Up && (in.Main.ID != 0 || in.Next.ID != 0 || in.Due != 0) {
			return "down is down"
		}
		if to.Want != Up && slices.ContainsFunc(in.Old, func(p Proc) bool { return p.Phase == Settling }) {
			return "a stop waits for nothing to settle"
		}
	}
	if to.Want != Up && to.Job.ID != 0 && !to.Job.Verb.leaves() {
		return "nothing but a stop goes on in what is to be down"
	}
	return ""
}

func killIsLast(s Service, e Event, to Service, effects []Effect) string {
	for _, f := range effects {
		f, ok := f.(Signal)
		if !ok || f.Signal != syscall.SIGKILL || s.Find(f.ID).Phase >= Aborted {
			continue
		}
		if p := to.Find(f.ID); to.life(p.Gen).KillMode != Mixed || p.Exit.Kind == NotExited {
			return "SIGKILL only after the kill signal, or for what a main process left behind"
		}
	}
	return ""
}

// quiet: all that follows from an event has been done with it.
func quiet(_ Service, _ Event, to Service, _ []Effect) string {
	if next, effects := Step(to, now, Gone{1 << 40}); len(effects) != 0 || next.LastInv != to.LastInv || next.Job.ID != to.Job.ID {
		return fmt.Sprint("news of a stranger changes nothing, but: ", effects)
	}
	return ""
}

func buildsAreKept(_ Service, _ Event, to Service, _ []Effect) string {
	for p := range to.Procs() {
		if to.Build(p.Gen) == nil {
			return "every process has its build"
		}
	}
	for _, g := range []Generation{to.Current, to.Target, to.Queue.Gen} {
		if g != 0 && to.Build(g) == nil {
			return "every generation that is named has its build"
		}
	}
	return ""
}

func crashIsMadeGood(s Service, e Event, to Service, _ []Effect) string {
	x, ok := e.(Exited)
	if !ok || x.Exit == well {
		return ""
	}
	for i, in := range s.Inst {
		l := s.life(in.Gen)
		if x.ID == in.Main.ID && in.Main.Phase == Serving && in.Main.Since == 1 && l.Restart == OnFailure &&
			l.Burst == 0 && !to.Removed && !to.alone(in.Gen, to.Inst[i].Gen) && !(to.hasTurn(i) && to.alone(in.Gen, to.goal())) && len(in.Old) <= l.MaxDraining && to.Inst[i].Main.ID == 0 &&
			!(in.renews() && to.Inst[i].Gen != in.Gen) { // what was to replace it goes as well, and holds a place
			return "the first crash after health is made good at once, however many drain"
		}
	}
	return ""
}

func endIsTheEnd(s Service, _ Event, to Service, effects []Effect) string {
	if s.Want == Ended && (to.Want != Ended || spawns(effects)) {
		return "no verb overrules the end"
	}
	return ""
}

func spawns(effects []Effect) bool {
	return slices.ContainsFunc(effects, func(f Effect) bool { _, ok := f.(Spawn); return ok })
}

// removedIsLeft: only a job from before starts anything in what is removed.
func removedIsLeft(s Service, e Event, to Service, effects []Effect) string {
	if _, found := e.(Found); to.Removed && s.Job.ID == 0 && spawns(effects) && !found {
		return "what is removed starts nothing"
	}
	if _, asked := e.(Asks); asked && s.Removed && to.Job.ID != s.Job.ID && to.Job.ID != 0 && !to.Job.Verb.leaves() {
		return "what is removed can be stopped, and no more"
	}
	n, named := e.(Named)
	if want := s.Removed && !(named && n.Is) || named && !n.Is; to.Removed != want {
		return "only a daemon-reload removes, or takes that back"
	}
	return ""
}

// vanishesOnce: a removed service is forgotten when nothing is left of it.
func vanishesOnce(s Service, e Event, to Service, effects []Effect) string {
	n, named := e.(Named)
	_, found := e.(Found)
	want := to.Removed && to.empty() && (!s.Removed || !s.empty() || named && !n.Is || found)
	for i, f := range effects {
		if f == Effect(Vanish{}) && (!want || i != len(effects)-1) {
			return "only what is removed and of which nothing is left vanishes, at last"
		}
	}
	if want && !slices.Contains(effects, Effect(Vanish{})) {
		return "what is removed and of which nothing is left vanishes"
	}
	return ""
}

func (s Service) empty() bool {
	due := slices.ContainsFunc(s.Inst, func(in Instance) bool { return in.Due != 0 })
	return !due && s.Job.ID == 0 && !s.lives()
}

func brokenNow(e Event, p Proc) bool {
	b, ok := e.(Broken)
	return ok && slices.Contains(b.Procs, p.ID)
}

// ruinedIsReplaced: it waits for a time, for a process that is in the way, or for
// what replaces it anyway. No generation is minted for it.
func ruinedIsReplaced(s Service, e Event, to Service, effects []Effect) string {
	for i, in := range to.Inst {
		broke := func(p Proc) bool { return brokenNow(e, p) && to.life(p.Gen).Type != Oneshot }
		if broke(in.Next) || broke(in.Main) && in.Main.Ruined == "" && !in.Main.Stopping {
			return "who holds a dead socket is known for it"
		}
		coming := in.Next.ID != 0 || to.Queue.ID != 0 || to.awaits(i) || to.mayRenew(i)
		if in.Main.Ruined != "" && !coming && !in.Main.Stopping && !to.Removed && len(in.Old) == 0 && to.Job.Verb != Restart {
			return "who holds a dead socket is replaced"
		}
	}
	if _, ok := e.(Broken); ok && (to.LastGen != s.LastGen || to.Job.ID != 0 && to.Job.ID != s.Queue.ID && !slices.Contains(s.Job.IDs(), to.Job.ID)) {
		return "what is broken is no operator's job, and brings no generation"
	}
	return ""
}

func numbersGrow(s Service, _ Event, to Service, _ []Effect) string {
	if to.LastInv < s.LastInv || to.LastGen < s.LastGen {
		return "numbers are never used again"
	}
	return ""
}

// scaleWakesNobody: what is down stays down, however many there are to be of it.
func scaleWakesNobody(s Service, e Event, to Service, effects []Effect) string {
	a, asked := e.(Asks)
	up := s.Job.ID != 0 || slices.ContainsFunc(s.Inst, func(in Instance) bool {
		return in.Main.ID != 0 || in.Due != 0 || in.Done
	})
	if !asked || a.Job.Verb != Scale || up {
		return ""
	}
	due := slices.ContainsFunc(to.Inst, func(in Instance) bool { return in.Due != 0 })
	if spawns(effects) || due || to.Job.ID != 0 {
		return "scale starts nothing in what is down"
	}
	return ""
}
