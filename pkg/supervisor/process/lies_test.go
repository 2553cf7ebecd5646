package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// T35: with fs.suid_dumpable=1 a user can take the socket of a process between
// setresuid and the next call, and answer in its place. That is an error of this
// start, whatever it says.
func TestAnswersThatWereNotAskedFor(t *testing.T) {
	const nowhere = 1 << 31
	warned := func(k *compiler) spawn.Frame {
		for i := range k.warnings {
			return spawn.Frame{Kind: spawn.Warned, Index: i}
		}
		t.Fatal("the program warns of nothing")
		return spawn.Frame{}
	}
	lies := map[string]func(k *compiler) []spawn.Frame{
		"a warning of nothing":      func(*compiler) []spawn.Frame { return []spawn.Frame{{Kind: spawn.Warned, Index: nowhere}} },
		"a warning of another call": func(*compiler) []spawn.Frame { return []spawn.Frame{{Kind: spawn.Warned}} },
		"a warning twice":           func(k *compiler) []spawn.Frame { return slices.Repeat([]spawn.Frame{warned(k)}, 2) },
		"a failure of nothing": func(*compiler) []spawn.Frame {
			return []spawn.Frame{{Kind: spawn.Failed, Index: nowhere, Errno: uint32(unix.EPERM)}}
		},
		"a failure without a reason": func(*compiler) []spawn.Frame { return []spawn.Frame{{Kind: spawn.Failed}} },
		"a file that is not read":    func(*compiler) []spawn.Frame { return []spawn.Frame{{Kind: spawn.Read, Value: 1 << 63}} },
		"execve of another call":     func(*compiler) []spawn.Frame { return []spawn.Frame{{Kind: spawn.Exec}} },
		"a second birth":             func(*compiler) []spawn.Frame { return []spawn.Frame{{Kind: spawn.Born}} },
		"what there is not":          func(*compiler) []spawn.Frame { return []spawn.Frame{{Kind: 1 << 30}} },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			o := &order{path: "/bin/true", argv: []string{"true"}, dir: "/", defaults: true}
			c, err := newConversation(Child{Control: pair[0]}, newLayout(5, false, false, 1), ready{order: o, room: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			k := c.compiler()
			k.execute(nil)
			for _, f := range lie(k) {
				if _, err := unix.Write(pair[1], frameBytes(f)); err != nil {
					t.Fatal(err)
				}
			}
			unix.Shutdown(pair[1], unix.SHUT_WR)
			defer unix.Close(pair[1])
			p := &Process{exited: make(chan struct{})}
			close(p.exited)
			_, err = c.do(t.Context(), p, k)
			var e *StartError
			if !errors.As(err, &e) || e.Errno != syscall.EBADMSG || e.Step != string(stepStart) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func frameBytes(f spawn.Frame) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(f.Kind))
	b = binary.NativeEndian.AppendUint32(b, f.Index)
	b = binary.NativeEndian.AppendUint64(b, f.Value)
	b = binary.NativeEndian.AppendUint32(b, f.Errno)
	return binary.NativeEndian.AppendUint32(b, f.Round)
}

// Where /proc is mounted with hidepid=2, a supervisord without root sees those alone
// whose files there are its user's. It must see a child to know its start time.
func TestChildIsSeenByItsUser(t *testing.T) {
	needsRoot(t)
	if info, ok := debug.ReadBuildInfo(); !ok || !slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		t.Skip("with cgo a child has our memory, and is hidden")
	}
	l := newTestLauncher(t, Options{NoCgroups: true})
	r := launch(t, l, as(alice, fake("fake-supervisor")))
	var pid int
	fmt.Sscan(r.line(), &pid)
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/stat", pid), &st); err != nil || st.Uid != alice {
		t.Errorf("the child's files in /proc are those of uid %d: %v", st.Uid, err)
	}
	r.Signal(syscall.SIGKILL, unit.ProcessOnly)
	mustGo(t, r.Process)
}
