package words

import (
	"fmt"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"golang.org/x/sys/unix"
)

// Ended says how a main process ended: `exited with status 1`.
func Ended(e unit.Exit) string {
	switch e.Kind {
	case unit.ByStatus:
		return fmt.Sprintf("exited with status %d", e.Code)
	case unit.ByKill:
		return "was killed by " + SignalName(int(e.Signal))
	case unit.ByDump:
		return "was killed by " + SignalName(int(e.Signal)) + " and dumped core"
	case unit.NotRun:
		return startError(e).Error()
	}
	return "ended unseen"
}

// SignalName is signal(7)'s name for a number.
func SignalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}

func startError(e unit.Exit) *process.StartError { return process.NotRun(e) }
