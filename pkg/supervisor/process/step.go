package process

import (
	"syscall"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A step is one of the things that a start does. A [StartError] names it.
type step string

// The steps of a process on its way to be a program, in their order, and those
// before.
const (
	stepSpawn        step = "spawn"  // the kernel starts no process
	stepCgroup       step = "cgroup" // the invocation gets no cgroup
	stepStart        step = "start"  // the process ended, or was ended, before it became the program
	stepFds          step = "fds"
	stepOOMAdjust    step = "oom-adjust"
	stepScheduler    step = "setscheduler"
	stepNice         step = "nice"
	stepKeyring      step = "keyring"
	stepLimits       step = "limits"
	stepGroup        step = "group"
	stepUser         step = "user"
	stepCapabilities step = "capabilities"
	stepChdir        step = "chdir"
	stepEnvironment  step = "environment"
	stepExec         step = "exec"
)

// steps holds for each step what could not be done to the detail of its error, and
// the status that systemd has for it (systemd.exec(5), "Process Exit Codes"); none
// where there is no process that could exit with it.
var steps = map[step]struct {
	action string
	status int
}{
	stepSpawn:        {"start a process for", 0},
	stepCgroup:       {"make a cgroup for", 219},
	stepStart:        {"start", 255},
	stepFds:          {"pass its files on", 202},
	stepOOMAdjust:    {"set oom_score_adj to", 206},
	stepScheduler:    {"set the scheduling policy of", 214},
	stepNice:         {"set nice to", 201},
	stepKeyring:      {"join a new session keyring", 237},
	stepLimits:       {"set limit", 205},
	stepGroup:        {"become group", 216},
	stepUser:         {"become user", 217},
	stepCapabilities: {"drop capabilities", 218},
	stepChdir:        {"change directory to", 200},
	stepEnvironment:  {"read environment file", 255},
	stepExec:         {"execute", 203},
}

// label is what an op of a program is for.
func (s step) label(detail string) spawn.Label {
	return spawn.Label{Step: string(s), Detail: detail, Status: steps[s].status}
}

// failed is the error of a step.
func (s step) failed(errno syscall.Errno, detail, hint string) *StartError {
	return &StartError{Step: string(s), Errno: errno, Detail: detail, Status: steps[s].status, hint: hint}
}
