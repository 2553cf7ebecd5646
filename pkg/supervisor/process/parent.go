package process

import (
	"os"
	"strconv"
	"syscall"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Parent forks the processes of a [Launcher] and reaps them. It is this process, or
// another one that lives on when this process does not.
//
// A child that has ended stays a zombie until it is released: its number, and those of
// its session and of its process group, are nobody else's meanwhile. So whoever holds
// the tree together by these numbers says when they are free.
//
// All methods are safe for use by several goroutines. They wait for the Parent alone,
// never for a child.
type Parent interface {
	// PID is the process that is the parent. It is a subreaper, or PID 1: orphans of the
	// children come to it as well.
	PID() int

	// Lasts says whether the Parent may be there when we are not any more. What it has
	// of a child is then kept for whoever comes after us, see [Launcher.Resume].
	Lasts() bool

	// Spawn forks a child that waits for programs (package spawn). A birth of a name
	// that is there fails with EEXIST. The error is a syscall.Errno or a *StartError; a
	// Birth whose error is not EEXIST has left nothing.
	Spawn(Birth) (Child, error)

	// Started says that what became of the start is stored, and that nobody has to hear
	// it from the child again. Of a name that is not there it is nothing.
	Started(Name) error

	// Release says that it is stored how the child ended. It may be reaped. Of a name that
	// is not there it is nothing.
	Release(Name) error

	// Whose says what the Parent knows of a process that is its child now, and of which
	// session (negative: that is not known): whether it was forked here.
	Whose(pid, session int) Whose
}

// A Name tells one child from all others, also from those of the past.
type Name struct {
	Service string
	ID      unit.Invocation
}

// String is SERVICE/ID.
func (n Name) String() string { return n.Service + "/" + strconv.FormatUint(uint64(n.ID), 10) }

// A Birth is what a child is forked with. All files are borrowed until Spawn returns.
type Birth struct {
	Name
	Cgroup int            // a file of the cgroup to be born in; negative: the Parent's own
	Files  []int          // what the child has, from its first file on
	Keys   map[int]string // of those that the Parent has as well: what it knows them by

	Meta  string // what Resume has to know of it; kept until Release. See [Parent.Lasts]
	Start []int  // files that Resume needs; kept until Started, or Release
}

// A Child is a process that was forked. Its files are the caller's.
type Child struct {
	PID     int
	PIDFD   int
	Control int     // the end of its socket pair that programs are sent to; negative: it is closed
	Base    uintptr // where it puts its programs
	First   int     // the number of its first file

	// Ended is sent how the child has ended, once it has; or it is closed, and nobody
	// will ever know.
	Ended <-chan syscall.WaitStatus
}

// Whose is what a [Parent] knows of a process that is its child.
type Whose int

// A process that is the Parent's child is one of these.
const (
	Orphan  Whose = iota // it was forked by somebody else, and came when that had ended
	Perhaps              // the Parent forks somebody just now, and this may be it
	Forked               // the Parent has forked it, or it belongs to the Parent's own session
)

// exitOf is an end in the words of package unit.
func exitOf(s syscall.WaitStatus, seen bool) unit.Exit {
	switch {
	case !seen:
		return unit.Exit{Kind: unit.Unseen}
	case s.Exited():
		return unit.Exit{Kind: unit.ByStatus, Code: s.ExitStatus()}
	case s.CoreDump():
		return unit.Exit{Kind: unit.ByDump, Signal: s.Signal()}
	case s.Signaled():
		return unit.Exit{Kind: unit.ByKill, Signal: s.Signal()}
	}
	return unit.Exit{Kind: unit.Unseen}
}

// A kin is all children of a Parent, forked or come to it, as a session's tree sees them.
type kin struct {
	parent    Parent
	strangers *shared[[]stat]
}

func newKin(p Parent) *kin {
	return &kin{p, &shared[[]stat]{take: func() ([]stat, error) { return findStrangers(p) }}}
}

// orphan says whether a living process has come to the Parent, and was not forked by
// it. Until a child executes anything it runs our own binary, and it may have the marks
// of another invocation of its service: both write to one pipe.
func (k *kin) orphan(s stat) bool {
	return s.parent == k.parent.PID() && isOrphan(s.pid, k.parent.Whose(s.pid, s.session))
}

func isOrphan(pid int, w Whose) bool {
	return w == Orphan || w == Perhaps && executableOf(decimal(pid)) != executableOf("self")
}

// executableOf is the path of what a process runs, as the kernel names it.
func executableOf(pid string) string {
	path, _ := os.Readlink("/proc/" + pid + "/exe")
	return path
}
