package process

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

type hinted struct{ hint string }

func (hinted) Error() string  { return "x" }
func (h hinted) Hint() string { return h.hint }

// An error's own hint comes first, wherever it is in the chain; a shortage has one in
// any case.
func TestHintOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("y: %w", hinted{"do"}), "do"},
		{errors.Join(syscall.EMFILE, hinted{"do"}), "do"},
		{errors.Join(hinted{}, syscall.EMFILE), Shortage(syscall.EMFILE)},
		{syscall.EACCES, ""},
		{nil, ""},
	} {
		if got := HintOf(c.err); got != c.want {
			t.Errorf("%v: %q; want %q", c.err, got, c.want)
		}
	}
}
