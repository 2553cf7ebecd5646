package stage

import "syscall"

// A Step is one of the things that a stage does.
type Step uint8

const (
	None Step = iota
	Fds
	OOMAdjust
	Nice
	Scheduler
	Keyring
	Limits
	Group
	User
	Capabilities
	Chdir
	Environment
	Signals
	Exec
	steps
)

// A Failure is what a stage could not do, and why.
type Failure struct {
	Step   Step
	Errno  syscall.Errno
	Detail string // a path, a limit, FILE:LINE; never content of a file
}

// table holds a step's name and the status that systemd has for it
// (systemd.exec(5), "Process Exit Codes").
var table = [steps]struct {
	name   string
	status int
}{
	None:         {"stage", 255},
	Fds:          {"fds", 202},
	OOMAdjust:    {"oom-adjust", 206},
	Nice:         {"nice", 201},
	Scheduler:    {"setscheduler", 214},
	Keyring:      {"keyring", 237},
	Limits:       {"limits", 205},
	Group:        {"group", 216},
	User:         {"user", 217},
	Capabilities: {"capabilities", 218},
	Chdir:        {"chdir", 200},
	Environment:  {"environment", 255},
	Signals:      {"signal-mask", 207},
	Exec:         {"exec", 203},
}

func (s Step) String() string { return table[s.known()].name }

// Status is the exit status of a stage that fails in s.
func (s Step) Status() int { return table[s.known()].status }

func (s Step) known() Step {
	if s >= steps {
		return None
	}
	return s
}
