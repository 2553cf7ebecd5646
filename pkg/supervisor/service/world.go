package service

import (
	"encoding/json"
	"errors"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

var (
	ErrEnded  = errors.New("it is not run any more")
	ErrDoomed = errors.New("it was told to go before it started")
)

// A World is everything that an actor needs from outside. Its functions do not wait,
// except for Save, which writes a file in memory.
type World struct {
	Now func() unit.Time
	// Save stores a record. Nothing that the record orders is done before.
	Save func(Record) error
	// Doors says which sockets the unit needs, and which of them are open.
	Doors func([]unit.Door)
	// Steer says who gets new connections. It has its effect when it returns, so
	// that who is signalled next gets no more.
	Steer func([]unit.Share)
	// Start starts an invocation in the background. The actor is given a [Staged]
	// when there is a process, and events for what becomes of it.
	Start func(Order)
	// Settle has it watched what is on its way to a process that gets no new
	// connections, for at most that long; a [unit.Quiet] says that it is nothing.
	Settle func(id unit.Invocation, atMost time.Duration)
	// Changed is told what a step has changed, what was before, and what is now.
	Changed func([]unit.Change, unit.Service, *View)
	// Vanish says that the unit is over: it was removed, and nothing is left of it. It
	// is the last that the actor does, when it takes nothing any more, so it may wait.
	Vanish func()
}

// An Order tells Start what to start.
type Order struct {
	unit.Spawn
	Spec   *unit.Spec
	Pinned Program // the executable to run; nil: the one at the path now
	Failed string  // the [Handle.File] of the build that last failed: nothing Fresh
	Heir   bool    // it is to be Main, with nobody before it
}

// A Handle is a process, from the moment its pid is known.
type Handle interface {
	// Proceed lets the process, which runs nothing yet, run its program, now that
	// its identity is stored; or has it end, with the error as the reason.
	Proceed(error)
	// Leave says that it was told to go: what it does to its sockets from now on is
	// its own affair.
	Leave()
	Trace() json.RawMessage // identifies the process to the next supervisord
	InvocationID() string   // $INVOCATION_ID
	Signal(syscall.Signal, unit.KillMode) error
	Program() Program    // what it runs, kept open; nil: not known
	File() string        // identifies the file that was at the path; "": the process runs another one, or that is not known
	Tail() []byte        // the end of its output
	Survivors() []string // what is left of its tree: "pid 30155 (sleep)"
	Remarks() []string   // what a reader of the status should know about it
}

// A Program is an executable that is kept open.
type Program interface {
	Path() string
	Differs(path string) bool
	Moved() bool
	Close() error
}

// Staged reports that an invocation has a process. The process runs nothing before
// Handle.Proceed.
type Staged struct {
	ID     unit.Invocation
	Handle Handle
}

// Heard is one notify message. Apart from the Notice, it changes only what is shown.
type Heard struct {
	ID        unit.Invocation
	Notice    unit.Notice
	Status    *string
	Errno     *int
	Reloading bool
}
