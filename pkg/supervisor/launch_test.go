package supervisor

import (
	"fmt"
	"syscall"
	"testing"
)

func TestAnErrorOfAStartIsSaidOnce(t *testing.T) {
	err := fmt.Errorf("cannot make the output pipe of api: %w", syscall.EMFILE)
	if got := startError(notRun(err)).Error(); got != err.Error() {
		t.Errorf("it says %q", got)
	}
}
