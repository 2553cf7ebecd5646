// Package unit defines the vocabulary of the supervisor, and the one function that
// gives it meaning: [Step], the life of a service.
//
// A service has one or more instances. In each, Main serves, Next is about to take
// its place, and every Old is on its way out. Main and Next come up through the
// same phases. A process that must go becomes an Old, and every Old leaves by the
// same rule.
//
// Nothing here performs I/O, reads a clock, logs or starts a goroutine.
package unit

import (
	"syscall"
	"time"
)

type (
	Time       int64  // CLOCK_MONOTONIC, ns; 0: never
	Generation uint32 // 0: none
	Invocation uint64 // one run of a process; a service never reuses one; 0: none
	JobID      uint64 // 0: none
)

// A Build is what a generation runs. Each process is judged by its own build.
type Build struct {
	Gen     Generation
	Spec    *Spec
	Release string `json:",omitempty"`
	Baked   bool   // a process of it was ready and stayed so
}

// Service is all the state that the rules know. It is a value that can be stored,
// published and compared.
type Service struct {
	Want    Want
	Removed bool       // the configuration no longer names it: it runs on, and starts nothing
	Inst    []Instance // a single instance is not a special case
	Size    int        // how many of them there are to be; 0: nobody has said
	Builds  []Build    // those still named below
	Scaled  Generation // builds up to this one no longer say how many: scale came later
	Current Generation // where a rollout that fails goes back to
	Target  Generation // where a rollout goes; 0: none
	Roll    Roll
	Job     Job // in progress
	Queue   Job // a reload that begins next, joined by all who ask meanwhile
	LastGen Generation
	LastInv Invocation
}

// Want is the last decision of the operator.
type Want uint8

const (
	Down Want = iota
	Up
	Ended // supervisord's own end: down, and no verb is taken any more
)

// Roll is the direction of the rollout to Target.
type Roll uint8

const (
	Forward Roll = iota // to Target
	Back                // to Current, because Target failed
	Halt                // nowhere: there is nothing better to go back to
)

// Instance is one of the places of a service.
type Instance struct {
	Gen     Generation // what it runs, and starts again after a crash
	Main    Proc       // serves, or will as the first to do so here
	Next    Proc       // will
	Old     []Proc     // on their way out: served, failed, or left by a crash
	Due     Time       // no Main: when to start one, room permitting; 0: do not
	Crashes int        // in a row; what the back-off counts
	Again   int        // automatic restarts since the operator's last word (NRestarts)
	Result  Result     // how the last Main ended
	Exit    Exit       // the same, in full
	Window  Time       // when the interval of the start limit began
	Starts  int        // automatic restarts in it
	Done    bool       // oneshot: its program has ended well
	Surplus bool       // there are to be fewer: it goes when its processes have
	Owed    bool       `json:",omitempty"` // removed: a Main was due when it was
}

// A Proc is one invocation, from the decision to start it until its whole process
// tree is gone.
type Proc struct {
	ID       Invocation
	Gen      Generation
	PID      int // 0: not known yet
	Phase    Phase
	By       Time // when the phase has lasted too long, or long enough
	Last     Time // that By may be put off to
	Ping     Time // when the watchdog bites; 0: it does not watch
	Since    Time // when it became ready
	Exit     Exit // its main process is gone, its tree not yet
	Stopping bool // it said so itself
	Empty    bool // settling: nobody waits in its queues
	Fresh    bool // it runs what is at the path now, not the file that was kept: see [Spawn]

	Ruined string `json:",omitempty"` // the socket it was given that is dead; "": none
	Renew  Time   // ruined, and Main: when it is to be replaced; 0: never
}

// Phase is where a Proc is in its life.
type Phase uint8

const (
	Spawning Phase = iota // coming up: Main or Next
	Starting
	Baking
	Serving
	Settling // leaving: Old. It gets no new connections
	Emptying // the same: it has settled for long enough, but somebody still waits in its queues
	Aborted  // by the watchdog's signal
	Asked    // by the kill signal
	Told     // by SIGKILL
	Stuck    // and did not even then
)

// A Job is an operator's request. It ends exactly once, with all its ids.
type Job struct {
	ID     JobID
	Verb   Verb
	Gen    Generation // what it brings; stop: 0
	Also   []JobID    `json:",omitempty"` // who asked for the same meanwhile
	Starts []JobID    `json:",omitempty"` // reload: who asked for a start meanwhile, which is more
	Scales []JobID    `json:",omitempty"` // reload: who asked for another number of instances meanwhile
	Ruins  int        `json:",omitempty"` // reload: how often a socket was ruined that a Next had
	Why    Reason     // why its rollout failed
	Who    Proc       // and which process failed, as it was then
}

// Verb is the operation that a job performs. The zero Verb means that there is no job.
type Verb uint8

const (
	Start Verb = iota + 1
	Stop
	Restart
	Reload
	Scale // to another number of instances
	End   // a stop after which nothing is started any more: supervisord ends
)

// String is the word for v in a command line.
func (v Verb) String() string {
	return [...]string{"", "start", "stop", "restart", "reload", "scale", "stop"}[v]
}

// Result says how an invocation ended, in systemd's words.
type Result string

const (
	Success       Result = "success"
	ExitCode      Result = "exit-code"
	Signaled      Result = "signal"
	CoreDump      Result = "core-dump"
	Timeout       Result = "timeout"
	WatchdogBit   Result = "watchdog"
	Resources     Result = "resources"       // it could not be started
	Protocol      Result = "protocol"        // it ended well, but never was ready
	StartLimitHit Result = "start-limit-hit" // and is not started again
	Unknown       Result = "unknown"         // nobody was there to see
)

// Exit says how a main process ended. The zero Exit means that it has not.
type Exit struct {
	Kind   ExitKind
	Code   int            // Exited: its status; with Step: the status systemd has for that step
	Signal syscall.Signal // Killed, Dumped
	Step   string         // NotRun: what could not be done ("exec", "chdir", …)
	Errno  syscall.Errno  // NotRun: and why
	Detail string         // NotRun: what an error message adds: a path, a user
	Hint   string         `json:",omitempty"` // NotRun: what to do about it, where the step alone does not tell
}

// ExitKind is what waitid(2) reports about an exit, or that the exit was not seen.
type ExitKind string

const (
	NotExited ExitKind = ""
	ByStatus  ExitKind = "exited"
	ByKill    ExitKind = "killed"
	ByDump    ExitKind = "dumped"
	NotRun    ExitKind = "not-run" // its program never ran
	Unseen    ExitKind = "unseen"
)

// Reason is a failure in words that status and superctl complete.
type Reason string

const (
	WhySpawn    Reason = "could not be started"
	WhyExited   Reason = "exited before it was ready"
	WhyTimeout  Reason = "was not ready in time"
	WhyBaking   Reason = "exited while it baked"
	WhyStopping Reason = "said STOPPING=1 as it came up"
	WhyWatchdog Reason = "missed its watchdog"
	WhyRuntime  Reason = "ran for longer than it may"
	WhyLeaving  Reason = "said STOPPING=1 and did not end in time"
	WhyCrashed  Reason = "crashed"
	WhyLimit    Reason = "was restarted too often"
	WhyStuck    Reason = "a process survives SIGKILL"
	WhyDown     Reason = "the service is stopped"
	WhyDraining Reason = "too many old processes are still there"
	WhyStop     Reason = "superseded by stop"
	WhyStart    Reason = "superseded by start"
	WhyRestart  Reason = "superseded by restart"
	WhyEnding   Reason = "supervisord is stopping"
	WhyRemoved  Reason = "the configuration no longer names it"
	WhySocket   Reason = "its socket was ruined"
	WhyCrowded  Reason = "too many wait for the same already"
)

// JobResult is how a job ended.
type JobResult string

const (
	Done     JobResult = "done"
	Failed   JobResult = "failed"
	Canceled JobResult = "canceled"
	Refused  JobResult = "refused"
)

// An Event is something that happened to a service.
type Event interface{ event() }

type (
	Asks struct { // an operator, the boot, a shutdown
		Job   Job
		Build *Build // start, restart, reload: what to run; Gen is given to it here. nil: the files no longer say
		Size  int    // scale: how many instances, at least one
	}
	Clears struct{} // an operator: reset-failed
	Kills  struct { // an operator: kill
		Signal syscall.Signal
		Whom   Whom
	}
	Named  struct{ Is bool } // daemon-reload: whether the files name it
	Broken struct {          // a socket is dead that these living processes hold
		Socket string
		Procs  []Invocation
	}
	Started struct { // its program runs
		ID  Invocation
		PID int
	}
	NotStarted struct { // and never will; nothing is left of it
		ID   Invocation
		Exit Exit
	}
	Said struct { // one notify datagram
		ID     Invocation
		Notice Notice
	}
	Exited struct { // its main process
		ID   Invocation
		Exit Exit
	}
	Gone    struct{ ID Invocation } // its whole tree
	Traffic struct {                // of a process that settles
		ID      Invocation
		Waiting int  // in its queues
		Taken   Time // when one was last taken from there, or nobody waited
	}
	Elapsed struct{} // the [Deadline] has passed
	Found   struct { // the first event after a restore
		Alive []Invocation // of these there is a process still, or its end has yet to be told
		Lost  bool         // nobody kept them meanwhile: what they said is lost, and so is how they ended
	}
)

// Whom says which processes an operator's signal is for: those of one role, or
// all with their trees.
type Whom string

const (
	KillMain Whom = "main"
	KillNext Whom = "next"
	KillOld  Whom = "old"
	KillAll  Whom = "all"
)

// Notice is the part of a notify datagram that the rules read.
type Notice struct {
	Ready    bool
	Stopping bool
	Ping     bool          // WATCHDOG=1
	Trigger  bool          // WATCHDOG=trigger
	Extend   time.Duration // EXTEND_TIMEOUT_USEC=; 0: not said
}

func (Asks) event()       {}
func (Clears) event()     {}
func (Kills) event()      {}
func (Named) event()      {}
func (Broken) event()     {}
func (Started) event()    {}
func (NotStarted) event() {}
func (Said) event()       {}
func (Exited) event()     {}
func (Gone) event()       {}
func (Traffic) event()    {}
func (Elapsed) event()    {}
func (Found) event()      {}

// An Effect is an action that Step orders. Effects are carried out in order.
type Effect interface{ effect() }

type (
	Spawn struct { // answered by Started or NotStarted
		Inst int
		ID   Invocation
		Gen  Generation
		// Fresh: of a build that has baked, what is at the path now and not the file
		// that was kept. If that one bakes, it is the file of the build from then on.
		Fresh bool
	}
	Signal struct { // to a process, also to one that has yet to become its program
		ID     Invocation
		Signal syscall.Signal
		Mode   KillMode
		Leave  bool // it is to go: one that has no pid yet need not start. Else it is an operator's, and no more than a signal
		Hung   bool // it is to go early, as it takes nobody from its queues: see [HungAfter]
	}
	Steer struct { // who gets new connections from now on; nobody else does
		Shares []Share // none: whoever comes waits for the next who gets some
		Closed bool    // or, as there will be nobody, meets what when_down says: see [Service.Closed]
	}
	Doors  struct{ Doors []Door } // the sockets that are wanted from now on: see [Service.Doors]. Whatever else the service had, it no longer needs
	Vanish struct{}               // the service was removed, and nothing is left of it: forget it. Always the last effect
	Forget struct{ ID Invocation }
	Finish struct {
		Jobs   []JobID
		Result JobResult
		Why    Reason
		Proc   Proc // the one that failed, as it was then; zero: none
	}
)

// A Share is a process's share of new connections: its Weight divided by the sum of
// all weights.
type Share struct {
	ID     Invocation
	Weight int
}

// A Door is a socket that a service needs bound. If a service has several definitions
// of one name, they are open or shut together.
type Door struct {
	Socket *Socket // of its instance: see [Socket.Of]
	Open   bool    // something serves, or will; else clients are to meet what when_down says
}

func (Spawn) effect()  {}
func (Signal) effect() {}
func (Steer) effect()  {}
func (Doors) effect()  {}
func (Vanish) effect() {}
func (Forget) effect() {}
func (Finish) effect() {}
