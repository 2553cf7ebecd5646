package unit

import "slices"

// A Change is one difference that a Step made. Status, logs, the events that superctl
// follows and the tests all read this one stream.
type Change struct {
	Kind ChangeKind
	Inst int
	Proc Proc // as it is now, or was last; not for State, Scheduled and Finished
	Role Role

	From, To SubState // State
	Due      Time     // Scheduled: when
	Hung     bool     // Leaving: it goes early, as it takes nobody from its queues
	Job      Job      // Queued, Begun: as it is now
	Finish   Finish   // Finished
}

// ChangeKind says what happened.
type ChangeKind string

const (
	Spawned   ChangeKind = "spawned"   // it is being started
	Began     ChangeKind = "started"   // its program runs
	IsReady   ChangeKind = "ready"     // it can serve
	HasBaked  ChangeKind = "baked"     // and goes on to
	Switched  ChangeKind = "switched"  // Next is Main
	Mending   ChangeKind = "mending"   // a socket that it was given is dead: it is replaced
	Waits     ChangeKind = "waits"     // it has settled, and somebody still waits in its queues
	Leaving   ChangeKind = "leaving"   // it settles, or was asked or told to go: see its Phase
	HasExited ChangeKind = "exited"    // its main process
	IsStuck   ChangeKind = "stuck"     // it outlived SIGKILL
	IsGone    ChangeKind = "gone"      // its whole tree
	State     ChangeKind = "state"     // the service's SubState
	Scheduled ChangeKind = "scheduled" // an automatic restart
	Queued    ChangeKind = "queued"    // a job: another comes first
	Begun     ChangeKind = "begun"     // a job
	Finished  ChangeKind = "finished"  // a job
)

// Role is what a process is to its instance.
type Role string

const (
	RoleMain Role = "main"
	RoleNext Role = "next"
	RoleOld  Role = "old"
)

// Changes lists the differences between before and after, in the order in which you
// would tell them: what happened to processes, what follows from it, and how jobs
// ended.
func Changes(before, after Service, effects []Effect) (cs []Change) {
	if len(after.Queue.IDs()) > len(before.Queue.IDs()) {
		cs = append(cs, Change{Kind: Queued, Job: after.Queue})
	}
	if after.Job.ID != 0 && after.Job.ID != before.Job.ID {
		cs = append(cs, Change{Kind: Begun, Job: after.Job})
	}
	was, is := before.placed(), after.placed()
	then, now := byID(was), byID(is)
	for _, c := range is {
		before := Change{}
		i, known := then[c.Proc.ID]
		if known {
			before = was[i]
		}
		c.Hung = slices.ContainsFunc(effects, func(e Effect) bool { s, ok := e.(Signal); return ok && s.Hung && s.ID == c.Proc.ID })
		cs = append(cs, processChanges(before, c, known)...)
	}
	for _, c := range was {
		if _, kept := now[c.Proc.ID]; !kept {
			c.Kind = IsGone
			cs = append(cs, c)
		}
	}
	for i, in := range after.Inst {
		if i < len(before.Inst) && in.Due != 0 && in.Again > before.Inst[i].Again {
			cs = append(cs, Change{Kind: Scheduled, Inst: i, Due: in.Due})
		}
	}
	if from, to := before.SubState(), after.SubState(); from != to {
		cs = append(cs, Change{Kind: State, From: from, To: to})
	}
	for _, e := range effects {
		if f, ok := e.(Finish); ok {
			cs = append(cs, Change{Kind: Finished, Finish: f, Proc: f.Proc})
		}
	}
	return cs
}

// processChanges tells what became of one process that is still there.
func processChanges(was, is Change, known bool) (cs []Change) {
	tell := func(k ChangeKind) {
		is.Kind = k
		cs = append(cs, is)
	}
	p, q := was.Proc, is.Proc
	if !known {
		tell(Spawned)
	}
	if p.PID == 0 && q.PID != 0 {
		tell(Began)
	}
	if p.Exit.Kind == NotExited && q.Exit.Kind != NotExited {
		tell(HasExited)
	}
	if p.Ruined == "" && q.Ruined != "" {
		tell(Mending)
	}
	if p.Phase == q.Phase {
		return cs
	}
	switch {
	case q.Phase == Baking:
		tell(IsReady)
	case q.Phase == Serving && was.Role == RoleNext:
		tell(Switched)
	case q.Phase == Serving && p.Phase == Baking && !q.Stopping:
		tell(HasBaked)
	case q.Phase == Stuck:
		tell(IsStuck)
	case q.Phase == Emptying:
		tell(Waits)
	case q.Phase >= Told, q.Phase >= Settling && q.Exit.Kind == NotExited: // else it has left already, as far as anyone knows
		tell(Leaving)
	}
	return cs
}

// placed lists every process with its place, Next before Main before Old.
func (s Service) placed() []Change {
	cs := make([]Change, 0, 2*len(s.Inst))
	for i := range s.Inst {
		in := &s.Inst[i]
		add := func(r Role, ps ...Proc) {
			for _, p := range ps {
				if p.ID != 0 {
					cs = append(cs, Change{Inst: i, Role: r, Proc: p})
				}
			}
		}
		add(RoleNext, in.Next)
		add(RoleMain, in.Main)
		add(RoleOld, in.Old...)
	}
	return cs
}

// byID says where in cs each process is.
func byID(cs []Change) map[Invocation]int {
	at := make(map[Invocation]int, len(cs))
	for i, c := range cs {
		at[c.Proc.ID] = i
	}
	return at
}
