package unit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// NamePattern is [IsName] as a regular expression.
const NamePattern = `^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`

// IsName reports whether s can be the name of a unit, instance or release. Names
// become part of the names of files, cgroups and sockets, so a name must not look
// like an option, a path or a hidden file. (IsName does not use NamePattern: compiling
// it took a tenth of superctl's run time.)
func IsName(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// Infinity is a duration without end. Zero never stands for it.
const Infinity = time.Duration(1<<63 - 1)

// A Spec is the configuration of one service. It never changes once it is decoded: a
// process is judged by the Spec it was started with.
type Spec struct {
	Name    string
	Boot    bool         // start it with supervisord; else only when asked
	Sockets []*Socket    // in the order of the fds
	Hand    bool         // its processes pass connections on to each other
	Notify  NotifyAccess // whose notify messages count
	Life    Life
	Program Program
	Log     Log
}

// Life is the part of a Spec that [Step] reads.
type Life struct {
	Type            Type
	RemainAfterExit bool // oneshot: active after its program has ended well
	Instances       int  // how many there are to be; 0 counts as 1
	Surge           int  // how many of them a rollout replaces at once; 0 counts as 1
	Overlap         bool // two of its processes may run side by side
	Steer           bool // we decide who gets new connections
	Canary          int  // percent of them for Next while it bakes

	Restart      Policy
	RestartSec   time.Duration // systemd.service(5), RestartSec=
	RestartMax   time.Duration // RestartMaxDelaySec=
	RestartSteps int           // RestartSteps=
	ResetSec     time.Duration // health that makes earlier crashes forgotten
	Burst        int           // automatic restarts in Interval after which it is failed; 0: never
	Interval     time.Duration
	Success      Statuses // ends that are as good as status 0

	Start     time.Duration // to become ready
	Bake      time.Duration // to stay ready, before it counts as good
	Settle    time.Duration // steered: between the switch and the kill signal, at least, unless it hangs: see [HungAfter]
	Empty     time.Duration // and how much longer while somebody waits in its queues
	Stop      time.Duration // between the kill signal and SIGKILL
	Abort     time.Duration // the same after the watchdog's signal
	Kill      time.Duration // between SIGKILL and Stuck
	Watchdog  time.Duration // between two pings; 0: none are expected
	Runtime   time.Duration // that it may run at most
	ExtendMax time.Duration // by which it may put off a deadline of a phase, in all

	KillSignal  syscall.Signal
	KillMode    KillMode
	MaxDraining int // Olds an instance may have when one more process is to start
}

// Type says when a process counts as ready.
type Type string

const (
	Exec    Type = "exec"    // its program runs
	Notify  Type = "notify"  // it said READY=1
	Oneshot Type = "oneshot" // it has ended well
)

// Policy says after which exits Main is restarted (systemd.service(5), Restart=).
type Policy string

const (
	No         Policy = "no"
	Always     Policy = "always"
	OnSuccess  Policy = "on-success"
	OnFailure  Policy = "on-failure"
	OnAbnormal Policy = "on-abnormal"
	OnAbort    Policy = "on-abort"
	OnWatchdog Policy = "on-watchdog"
)

// KillMode says who gets the signals of a stop (systemd.kill(5), KillMode=).
type KillMode string

const (
	ControlGroup KillMode = "control-group" // the whole tree
	Mixed        KillMode = "mixed"         // the kill signal for the main process, SIGKILL for all
	ProcessOnly  KillMode = "process"       // the main process alone
)

// NotifyAccess says whose notify messages count (systemd.service(5), NotifyAccess=).
type NotifyAccess string

const (
	NotifyNone NotifyAccess = "none"
	NotifyMain NotifyAccess = "main"
	NotifyAll  NotifyAccess = "all"
)

// Statuses are exit statuses and signals that count as success besides 0 and
// SIGHUP, SIGINT, SIGTERM and SIGPIPE (systemd.service(5), SuccessExitStatus=).
type Statuses struct {
	Codes   []int            `json:",omitempty"`
	Signals []syscall.Signal `json:",omitempty"`
}

// A Program is the program that a service runs, and the identity, environment and
// limits that it runs with.
type Program struct {
	Argv   []string // Argv[0] as it was written: what the program sees
	Path   string   // absolute; or a bare name, to be found in Search at each start
	Search []string // absolute directories
	Dir    string   // working directory, absolute

	User, Group string // names or decimal ids; "": those of supervisord. Looked up at each start
	Umask       int
	Nice        *int    `json:",omitempty"` // nil: supervisord's own
	OOMScoreAdj *int    `json:",omitempty"`
	Limits      []Limit `json:",omitempty"`

	Environment      Secrets  `json:",omitempty"` // KEY=VALUE, each key once
	EnvironmentFiles []string `json:",omitempty"` // absolute; with "-" before it may be missing
	PassEnvironment  []string `json:",omitempty"` // names taken from supervisord's own environment
}

// A Limit is one setrlimit(2). RLIM_INFINITY is 1<<64 - 1.
type Limit struct {
	Resource   int // syscall.RLIMIT_*
	Soft, Hard uint64
}

// Log says where a service's output goes.
type Log struct {
	File     bool  // log_directory/NAME.log
	MaxSize  int64 // bytes after which it is rotated
	MaxFiles int   // rotated files that are kept
	Compress bool  // gzip of what was rotated
	Forward  bool  // a copy of each line on supervisord's own stdout
	Journal  bool  // a copy of each line in systemd's journal
	Prefix   Prefix
}

// Prefix says whether lines on supervisord's stdout begin with the name of their
// service.
type Prefix string

const (
	PrefixAuto   Prefix = "" // where there is more than one service or instance
	PrefixAlways Prefix = "always"
	PrefixNever  Prefix = "never"
)

// Secrets is a list of strings that must not be printed. It is stored in full,
// because only supervisord can read the store's files.
type Secrets []string

// Format writes the number of secrets, whatever the verb.
func (s Secrets) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[%d secrets]", len(s)) }

// A Socket is the configuration of one socket unit: one or more listening
// sockets that are bound, named and passed on together.
type Socket struct {
	Name    string
	Listen  []Address
	FDName  string // for LISTEN_FDNAMES
	Backlog int    // listen(2); the kernel caps it at net.core.somaxconn

	Mode        uint32 // of a unix path
	User, Group string // its owner; "": supervisord's own
	NonBlocking bool   // O_NONBLOCK, set once at creation
	NoDelay     bool
	KeepAlive   bool
	FreeBind    bool
	IPv6Only    *bool `json:",omitempty"` // nil: net.ipv6.bindv6only
	ReceiveBuf  int   // bytes; 0: the kernel's default
	SendBuf     int

	WhenDown WhenDown
	Steer    bool // each process has queues of its own, and supervisord says who gets new connections

	// Unsteered is why all processes share it although it was to be steered; Steer is
	// false then.
	Unsteered string `json:",omitempty"`
}

// Uses reports whether s has a socket unit of this name.
func (s *Spec) Uses(socket string) bool { return slices.Contains(s.SocketNames(), socket) }

// SocketNames returns the names of the socket units of s, in the order of s.
func (s *Spec) SocketNames() (names []string) {
	for _, k := range s.Sockets {
		names = append(names, k.Name)
	}
	return names
}

// WhenDown says what clients meet while every service of a socket is dead or failed.
type WhenDown string

const (
	Refuse WhenDown = "refuse" // connection refused
	Queue  WhenDown = "queue"  // they wait for the next start
)

// An Address is where one stream socket listens.
type Address struct {
	Network string // "tcp": Host may be v4 or v6, or empty for [::]; "unix"
	Host    string // an IP address without a zone, or empty
	Port    int    // 0: any that is free
	PortOf  string `json:",omitempty"` // the port with [Placeholder] in it, if there is one
	Path    string // unix: absolute, or "@name" in the abstract namespace
}

// String returns the address as it is written in a configuration.
func (a Address) String() string {
	port := cmp.Or(a.PortOf, strconv.Itoa(a.Port))
	switch {
	case a.Network == "unix":
		return a.Path
	case a.Host == "":
		return "[::]:" + port
	}
	for _, c := range a.Host {
		if c == ':' {
			return "[" + a.Host + "]:" + port
		}
	}
	return a.Host + ":" + port
}
