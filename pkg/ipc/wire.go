// Package ipc is the protocol of supervisord's control socket: HTTP/1.1 with JSON, so
// that curl --unix-socket works as well as superctl.
//
// It has the types that are sent, a [Server] that identifies its callers by asking the
// kernel, a [Client], and the interface that the server serves, [Supervisor].
//
// A request that changes something creates a job. The job outlives the client that
// asked for it, and any client can follow its events. A stream is one JSON object a
// line, with heartbeats, and ends with an object of type "end". A stream that stops
// without one was cut off.
package ipc

import (
	"context"
	"iter"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// APIVersion is the number in the paths, as in /v1/status.
const APIVersion = 1

// Supervisor is what the server serves. Several goroutines may call its methods. An
// error that is not an [*Error] is answered as internal.
type Supervisor interface {
	Info() Info
	// Status is of the units named, or of all. It never waits for a service.
	Status(units []string) (Status, error)
	// Submit begins a job. It does not wait for its end.
	Submit(JobRequest, Caller) (Job, error)
	Job(id string) (Job, error)
	// JobEvents yields the events of a job after since (0: all), and then as they
	// come, until it has ended; with drained, until the old processes that it
	// left have gone as well.
	JobEvents(ctx context.Context, id string, since uint64, drained bool) (iter.Seq[Event], error)
	// Events yields the events after since as they come; 0: from now on.
	Events(ctx context.Context, since uint64) iter.Seq[Event]
	Kill(KillRequest, Caller) error
	ResetFailed(UnitRequest, Caller) error
	DaemonReload(Caller) (Reloaded, error)
	Logs(ctx context.Context, r LogRequest) (iter.Seq[LogLine], error)
	// Try sends one request to one process. It takes some seconds at most.
	Try(TryRequest, Caller) (Tried, error)
	// History returns what happened, across restarts of supervisord. It is an error to ask
	// for a unit that neither the history nor the configuration knows.
	History(HistoryRequest) (History, error)
}

// Info describes the running supervisord.
type Info struct {
	Version string    `json:"version"`
	API     int       `json:"api"`
	PID     int       `json:"pid"`
	Epoch   string    `json:"epoch"` // of event numbers; another: nobody knows what happened in between
	Since   time.Time `json:"since"`
	Config  string    `json:"config"` // the file it was started with
}

// Status is a snapshot of units.
type Status struct {
	Time     time.Time    `json:"time"`
	Services []UnitStatus `json:"services"`
	Sockets  []SocketUnit `json:"sockets"`
	Notes    []string     `json:"notes,omitempty"`    // "the configuration's files have changed since they were loaded; to load them: superctl daemon-reload"
	Degraded []string     `json:"degraded,omitempty"` // what does not work of supervisord itself
}

// UnitStatus is the status of a service.
type UnitStatus struct {
	Name        string     `json:"name"`
	ActiveState string     `json:"active_state"`
	SubState    string     `json:"sub_state"`
	Result      string     `json:"result,omitempty"`
	Since       *time.Time `json:"since,omitempty"` // Main is ready
	Generation  uint32     `json:"generation,omitempty"`
	Ready       int        `json:"ready"` // instances that can serve
	Want        int        `json:"want"`  // instances there should be
	MainPID     int        `json:"main_pid,omitempty"`
	Restarts    int        `json:"restarts"` // automatic ones since the operator's last word
	Memory      uint64     `json:"memory,omitempty"`
	Command     string     `json:"command,omitempty"` // argv[0]
	Argv        []string   `json:"argv,omitempty"`    // only when named
	Processes   []Process  `json:"processes,omitempty"`
	Sockets     []string   `json:"sockets,omitempty"` // names of its socket units, in order
	Job         *Job       `json:"job,omitempty"`     // in progress
	Queued      *Job       `json:"queued,omitempty"`
	StatusText  string     `json:"status_text,omitempty"` // STATUS= of Main
	Errno       int        `json:"errno,omitempty"`       // ERRNO= of Main
	LastExit    string     `json:"last_exit,omitempty"`   // "exited with status 1"
	Note        string     `json:"note,omitempty"`        // what a reader of the table should know
	Waiting     []string   `json:"waiting,omitempty"`     // what it waits for, and how long yet
	Hints       []string   `json:"hints,omitempty"`
	FileDiffers bool       `json:"file_differs,omitempty"` // the file on disk is not what Main runs
	Removed     bool       `json:"removed,omitempty"`      // the configuration no longer names it
	Leftovers   []string   `json:"leftovers,omitempty"`    // what earlier main processes left behind and nobody ends (kill_mode = "process"): "pid 30155 (sleep)"
	Problems    []string   `json:"problems,omitempty"`     // FILE:LINE:COLUMN: …; the configuration had these errors when supervisord was started, so it does not run
	Output      []string   `json:"output,omitempty"`       // last lines; only when named
}

// Process is one invocation.
type Process struct {
	Instance   int        `json:"instance"`
	Role       string     `json:"role"` // main, next, old
	PID        int        `json:"pid,omitempty"`
	Generation uint32     `json:"generation"`
	Phase      string     `json:"phase"` // "waiting for READY=1", "serving", "draining", …
	Since      *time.Time `json:"since,omitempty"`
	Deadline   *time.Time `json:"deadline,omitempty"`
	Memory     uint64     `json:"memory,omitempty"`
	Invocation string     `json:"invocation,omitempty"` // $INVOCATION_ID
	Share      float64    `json:"share,omitempty"`      // steered: of new connections, in per cent
	Others     []string   `json:"others,omitempty"`     // what else is in its tree: "pid 30155 (sleep)"; only when the unit is named
	Remarks    []string   `json:"remarks,omitempty"`    // what it could not have as asked, and what of it did not count
}

// SocketUnit is a socket unit with its sockets.
type SocketUnit struct {
	Name      string         `json:"name"`
	Services  []string       `json:"services,omitempty"` // that name it
	Sockets   []Socket       `json:"sockets"`
	Holders   []SocketHolder `json:"holders,omitempty"`   // steered: who waits for nobody in particular, then each process that has it
	Unsteered string         `json:"unsteered,omitempty"` // why all processes share it although it was to be steered, and what to do about that
	Removed   bool           `json:"removed,omitempty"`
}

// Socket is one listening socket.
type Socket struct {
	Address   string `json:"address"`
	Listening bool   `json:"listening"` // else clients are refused
	Given     bool   `json:"given,omitempty"`
	Queue     int    `json:"queue"`             // connections not accepted yet; -1: not known
	Limit     int    `json:"limit"`             // how many there may be; -1: not known
	Drops     uint64 `json:"drops"`             // packets: handshakes that found no room, and what belongs to no connection
	Steered   bool   `json:"steered,omitempty"` // each process has a queue of its own: queue and drops are the sums, the limit is that of one
	Last      string `json:"last,omitempty"`    // what a process last did to it that it must not
	Error     string `json:"error,omitempty"`   // why it is not there, or does not work
	Note      string `json:"note,omitempty"`    // what a reader would not expect
}

// SocketHolder is a process with queues of its own at the steered sockets of a unit; or,
// without a role, the queues of those who wait until somebody gets new connections.
type SocketHolder struct {
	Service    string        `json:"service,omitempty"`
	Instance   int           `json:"instance,omitempty"`
	Role       string        `json:"role,omitempty"` // main, next, old, or gone
	PID        int           `json:"pid,omitempty"`
	Generation uint32        `json:"generation,omitempty"`
	Share      float64       `json:"share"` // of new connections, in per cent, exact to a hundredth
	Queues     []SocketQueue `json:"queues"`
}

// SocketQueue is one process's queue at one address.
type SocketQueue struct {
	Address string `json:"address"`
	Queue   int    `json:"queue"` // connections not accepted yet; -1: not known
	Limit   int    `json:"limit"` // how many there may be; -1: not known
	Drops   uint64 `json:"drops"` // packets
}

// SocketAccount is what the kernel counted at one socket while a job ran.
type SocketAccount struct {
	Unit        string `json:"unit"`
	Address     string `json:"address"`
	QueueBefore int    `json:"queue_before"` // -1: not known
	Queue       int    `json:"queue"`        // -1: not known
	Limit       int    `json:"limit"`        // -1: not known
	Drops       uint64 `json:"drops"`        // during the job
}

// JobRequest asks for a job.
type JobRequest struct {
	Verb string `json:"verb"` // start, stop, restart, reload, scale
	Unit string `json:"unit"`
	Size int    `json:"size,omitempty"` // scale: instances, 1 to 1000

	RequestID string `json:"-"` // Request-Id, see [Client]; "": the job is begun again when it is asked for again
}

// UnitRequest names a service.
type UnitRequest struct {
	Unit string `json:"unit"`
}

// KillRequest asks for a signal to processes of a service.
type KillRequest struct {
	Unit   string    `json:"unit"`
	Signal int       `json:"signal"` // 1 to 64
	Whom   unit.Whom `json:"whom"`   // main, next, old, all

	RequestID string `json:"-"` // Request-Id, see [Client]
}

// TryRequest asks for one HTTP GET to one process of a service, at a steered socket,
// whether or not that process gets new connections.
type TryRequest struct {
	Unit     string    `json:"unit"`
	Whom     unit.Whom `json:"whom,omitempty"`     // main or next; none: next if there is one, else main
	Instance *int      `json:"instance,omitempty"` // none: the first that has such a process
	Address  string    `json:"address,omitempty"`  // of the socket, as in a status; none: the first that it has
	Path     string    `json:"path,omitempty"`     // "/" if empty
}

// Tried is what a process answered.
type Tried struct {
	Unit       string   `json:"unit"`
	Instance   int      `json:"instance"`
	Role       string   `json:"role"`
	PID        int      `json:"pid"`
	Generation uint32   `json:"generation"`
	Address    string   `json:"address"`
	Status     string   `json:"status"`         // "HTTP/1.1 200 OK"
	Code       int      `json:"code"`           // 200
	Headers    []string `json:"headers"`        // the first lines, as they came
	Body       string   `json:"body"`           // the first KiB; invalid UTF-8 as U+FFFD
	More       bool     `json:"more,omitempty"` // there is more of headers or body, or was still to come
	Seconds    float64  `json:"seconds"`        // until the status line was there
}

// Job is an operation and its outcome.
type Job struct {
	ID         string     `json:"id,omitempty"` // a number that no other job ever has; none: it was not begun
	Unit       string     `json:"unit"`
	Verb       string     `json:"verb"`
	State      JobState   `json:"state,omitempty"`
	Generation uint32     `json:"generation,omitempty"` // what it brings
	From       uint32     `json:"from,omitempty"`       // what ran before
	Asked      time.Time  `json:"asked,omitzero"`
	Ended      *time.Time `json:"ended,omitempty"`
	Error      *Error     `json:"error,omitempty"`
	Waiting    []string   `json:"waiting,omitempty"` // what it waits for, and how long yet
	Notes      []string   `json:"notes,omitempty"`   // of a job that is done: what its asker may not expect
	Hints      []string   `json:"hints,omitempty"`   // of a job that is done: what to do about that

	Sockets []SocketAccount `json:"sockets,omitempty"` // of a reload or restart that has ended
}

// JobState is where a job is; all but the first two are final.
type JobState string

const (
	JobQueued   JobState = "queued"
	JobRunning  JobState = "running"
	JobDone     JobState = "done"
	JobFailed   JobState = "failed"
	JobCanceled JobState = "canceled"
	JobRefused  JobState = "refused"
)

// Event is one thing that happened.
type Event struct {
	Type       string          `json:"type"`         // "event"; the stream's own: "heartbeat", "lost", "end"
	ID         string          `json:"id,omitempty"` // EPOCH-SEQ, for since=; the server makes it
	Seq        uint64          `json:"-"`
	Time       *time.Time      `json:"time,omitempty"`
	Unit       string          `json:"unit,omitempty"`
	Jobs       []string        `json:"jobs,omitempty"` // in whose course it happened
	Kind       unit.ChangeKind `json:"kind,omitempty"` // spawned, started, ready, baked, switched, waits, leaving, exited, stuck, gone, state, scheduled, queued, begun, finished, restarted
	Text       string          `json:"text,omitempty"` // the same in words: "started pid 30155"
	Instance   int             `json:"instance,omitempty"`
	Role       string          `json:"role,omitempty"`
	PID        int             `json:"pid,omitempty"`
	Generation uint32          `json:"generation,omitempty"`
	From       string          `json:"from,omitempty"` // kind state; of begun: the generation that ran
	To         string          `json:"to,omitempty"`
	State      JobState        `json:"state,omitempty"`  // kind finished
	Error      *Error          `json:"error,omitempty"`  // kind finished, of a job that did not end well
	Job        *Job            `json:"job,omitempty"`    // kind finished, to who follows that job: what became of it
	Lost       uint64          `json:"lost,omitempty"`   // with "lost": how many events are missing; to who follows one unit: at most
	Missed     bool            `json:"missed,omitempty"` // kind restarted: of what happened before, some may be missing; the states of the units follow
}

// Restarted is the kind of event that says that supervisord itself was restarted since the
// event that the client has.
const Restarted unit.ChangeKind = "restarted"

// Reloaded says what a daemon-reload changed.
type Reloaded struct {
	Added    []string `json:"added"`
	Removed  []string `json:"removed"`
	Changed  []string `json:"changed"`
	Warnings []string `json:"warnings"` // file:line:column: …
}

// LogRequest asks for the output of services. It travels as the query of a GET.
type LogRequest struct {
	Units      []string
	N          int // the last N lines; at most 100,000
	Follow     bool
	Generation uint32    // 0: any
	Invocation string    // $INVOCATION_ID, or 8 digits and more of its beginning; "": any
	Since      time.Time // not lines from before that; zero: all
	Until      time.Time // not lines from after that; zero: all
}

// LineNone is the type of a [LogLine] that says that there is no line.
const LineNone = "none"

// LogLine is one line of output, how many were lost, or that there is none. Clients must
// ignore types that they do not know.
type LogLine struct {
	Type       string     `json:"type"` // "line"; "lost"; "error": Text says which part of the past cannot be read; "none": no past line is what was asked for, of this unit, or, without one, of any; the stream's own: "heartbeat", "end"
	Time       *time.Time `json:"time,omitempty"`
	Unit       string     `json:"unit,omitempty"`
	Instance   int        `json:"instance,omitempty"`
	Generation uint32     `json:"generation,omitempty"`
	PID        int        `json:"pid,omitempty"`  // of the main process; a child of it may have written the line
	Text       string     `json:"text,omitempty"` // invalid UTF-8 as U+FFFD
	Raw        []byte     `json:"raw,omitempty"`  // the bytes, where Text is not they
	Part       bool       `json:"part,omitempty"` // the line is not over: what the same process writes next goes on with it
	Lost       uint64     `json:"lost,omitempty"`
}

// HistoryRequest asks for records of the history. It travels as the query of a GET.
type HistoryRequest struct {
	Units []string // none: all
	N     int      // the last N records; 1 to 10,000
}

// History is what happened, oldest first.
type History struct {
	Records []Record `json:"records"`
	Notes   []string `json:"notes,omitempty"` // what of it cannot be read
}

// Record is one thing that happened. Clients must ignore kinds that they do not
// know.
type Record struct {
	Kind       string    `json:"kind"` // "job": it has ended; "exit": a process has, that was not told to; "lost": so many records could not be kept
	Time       time.Time `json:"time"` // when it ended
	Unit       string    `json:"unit,omitempty"`
	Generation uint32    `json:"generation,omitempty"` // kind job: what it brought
	Seconds    float64   `json:"seconds,omitempty"`    // from when the job was asked for; that the process lived

	Job     string          `json:"job,omitempty"` // kind job: its id
	Verb    string          `json:"verb,omitempty"`
	State   JobState        `json:"state,omitempty"` // done, failed, canceled, refused
	From    uint32          `json:"from,omitempty"`  // the generation that ran before
	Asked   *time.Time      `json:"asked,omitempty"`
	UID     *uint32         `json:"uid,omitempty"`     // who asked; none: supervisord itself
	Error   *Error          `json:"error,omitempty"`   // of one that did not end well, without output
	Sockets []SocketAccount `json:"sockets,omitempty"` // of a reload or restart; those that lost most if there are more than 32

	Instance int    `json:"instance,omitempty"` // kind exit
	PID      int    `json:"pid,omitempty"`
	Text     string `json:"text,omitempty"` // how it ended: "was killed by SIGSEGV"

	Lost uint64 `json:"lost,omitempty"` // kind lost
}

// Kinds of a [Record].
const (
	RecordJob  = "job"
	RecordExit = "exit"
	RecordLost = "lost"
)
