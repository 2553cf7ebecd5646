package invocation

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
)

func TestAnErrorOfAStartIsSaidOnce(t *testing.T) {
	err := fmt.Errorf("cannot make the output pipe of api: %w", syscall.EMFILE)
	if got := process.NotRun(NotRun(err)).Error(); got != err.Error() {
		t.Errorf("it says %q", got)
	}
}

// TestAShortageHasAHint, whatever it was that could not be made for want of it.
func TestAShortageHasAHint(t *testing.T) {
	for what, err := range map[string]error{
		"output":  fmt.Errorf("cannot make the output pipe of api: %w", syscall.EMFILE),
		"cgroup":  &process.StartError{Step: "cgroup", Errno: syscall.EMFILE, Detail: "api"},
		"process": &process.StartError{Step: "spawn", Errno: syscall.EAGAIN, Detail: "api"},
	} {
		if process.NotRun(NotRun(err)).Hint() == "" {
			t.Errorf("%s: %v has no hint", what, err)
		}
	}
	if h := process.NotRun(NotRun(syscall.EACCES)).Hint(); h != "" {
		t.Errorf("no permission has the hint %q", h)
	}
}
