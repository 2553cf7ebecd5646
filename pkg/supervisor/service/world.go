package service

import (
	"context"
	"encoding/json"
	"errors"
	"syscall"

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
	// Doors declares which sockets the unit needs, and which of them are open.
	Doors func([]unit.Door)
	// Steer sets which processes get new connections, and what becomes of clients if
	// none does. It is in effect when it returns, so that a process that is started next
	// has its clients already, and one that is signalled next gets no more of them.
	Steer func(unit.Steer)
	// Start starts an invocation in the background. The actor receives a [Staged] when
	// there is a process, and then events about it. When ctx is done, which it never is once
	// there is one, the process need not come.
	Start func(ctx context.Context, o Order)
	// Resume takes on the process of an invocation that a former actor started. It returns
	// nil if there is none any more. The actor receives, in the background and in this
	// order, all that the process has said, how it ended if it has, and a [CaughtUp]; then
	// events as they come.
	Resume func(o Order, r RunRecord, trace json.RawMessage) Handle
	// Program returns the executable that a former actor kept for a generation, or nil if
	// it is not there any more.
	Program func(g unit.Generation, trace json.RawMessage) Program
	// Release reports that the end of an invocation is stored and told. Nothing of it need
	// be kept for the next actor. nil: nobody keeps anything.
	Release func(unit.Invocation)
	// Counts returns what Changed has counted, to be stored. nil: nothing is.
	Counts func() json.RawMessage
	// Settle watches, in the background and until ctx is done, a process that gets no new
	// connections. The actor receives a [unit.Traffic] when nobody waits in its queues any
	// more, or somebody does again, and when it has taken nobody who waits there for
	// [unit.HungAfter].
	Settle func(ctx context.Context, id unit.Invocation)
	// Changed receives what a step changed, the state before it, and the view after it. The
	// same can come twice, the second time from the actor that resumes, if the first has
	// ended in between: then every change of it comes again.
	Changed func([]unit.Change, unit.Service, *View)
	// Vanish reports that the unit was removed and nothing is left of it. It is the last
	// thing that the actor does, when it takes no more messages, so it may wait.
	Vanish func()
}

// An Order tells Start what to start.
type Order struct {
	unit.Spawn
	Spec *unit.Spec
	// Invocation is the $INVOCATION_ID. It is stored before Start is called.
	Invocation string
	// Kept says that a former actor may have started the invocation: go on with what there
	// is of it. Then Start sends a [CaughtUp] as Resume does.
	Kept   bool
	Pinned Program // the executable to run; nil: the one at the path now
	Failed string  // the [Handle.File] of the build that last failed: nothing Fresh
}

// A Handle is a process, from the moment its pid is known.
type Handle interface {
	// Proceed lets the process, which runs nothing yet, run its program, because its
	// identity is stored now. With an error it makes the process exit for that reason.
	Proceed(error)
	// Leave declares that the process was told to stop: what it does to its sockets from
	// now on is not damage.
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
	Trace() json.RawMessage // identifies the file to the next supervisord
	Close() error
}

// Staged reports that an invocation has a process. The process runs nothing before
// Handle.Proceed.
type Staged struct {
	ID     unit.Invocation
	Handle Handle
}

// CaughtUp reports that the actor knows all that happened to a kept invocation while
// there was no actor.
type CaughtUp struct{ ID unit.Invocation }

// Heard is one notify message. Apart from the Notice, it changes only what is shown.
type Heard struct {
	ID        unit.Invocation
	Notice    unit.Notice
	Status    *string
	Errno     *int
	Reloading bool
	// Stored is called when what the message changes is stored, or cannot be. It must not
	// wait. A STATUS alone is stored a moment later. nil: nobody wants to know.
	Stored func()
}
