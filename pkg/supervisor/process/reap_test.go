package process

import (
	"os"
	"testing"
)

// Until it has a session of its own a child is in that of its template, and nobody knows
// its number. It is no orphan, which the tree of another invocation of its service could
// take for its own by their pipe; and its end is for those who start it.
func TestChildInTheSessionOfItsTemplate(t *testing.T) {
	const template, child = 1 << 29, 1<<29 + 1 // no numbers of processes
	r := &register{pids: map[int]int{}, templates: map[int]bool{}}
	r.begunTemplate(template)
	r.begin()
	s := stat{pid: child, parent: os.Getpid(), session: template, state: 'R'}
	orphan := func() bool { return isOrphan(s.pid, r.whose(s.pid, s.session)) }
	if orphan() {
		t.Error("it is taken for an orphan")
	}
	if s.state = 'Z'; r.leaves(s, true) {
		t.Error("it is left to the reaper")
	}
	if !r.end(0) {
		t.Error("nobody looks at it when its start is over")
	}
	if !r.leaves(s, true) {
		t.Error("after its start it is not left to the reaper")
	}
	r.reapedTemplate(template)
	if s.state = 'S'; !orphan() {
		t.Error("what is in a session of that number later is no orphan")
	}
}
