package keeper

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// zombie is a child that has ended.
func zombie(t *testing.T) (pid int) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Files: []*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	if err := again(func() error { return unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) }); err != nil {
		t.Fatal(err)
	}
	return p.Pid
}

// While the template owes an answer, a zombie that nobody knows may be the child that it
// is about to tell of. It is reaped when that was another one, however many are asked for
// since.
func TestAZombieMayBeOurs(t *testing.T) {
	k, _, _ := alone(t)
	fake := k.template.(*noTemplate)
	answer := func() {
		fake.asked = 0 // odd ones are answered
		k.collect()
	}
	k.ask(&start{done: func(*start) {}})
	stranger, ours := zombie(t), zombie(t)
	k.reaper.sweep()
	k.reaper.scan()
	for _, pid := range []int{stranger, ours} {
		if ended(unix.P_PID, pid) != pid {
			t.Fatalf("%d was reaped", pid)
		}
	}
	k.starts[0].done = func(*start) {
		k.table.child(k.table.add(&entry{key: "proc", pid: ours}))
		k.ask(&start{done: func(*start) {}}) // there is always one more
	}
	answer()
	if len(k.starts) != 1 {
		t.Fatalf("%d are asked for", len(k.starts))
	}
	k.reaper.scan()
	if ended(unix.P_PID, stranger) != 0 {
		t.Error("the stranger was not reaped")
	}
	if ended(unix.P_PID, ours) != ours {
		t.Error("ours was")
	}
	reap(unix.P_PID, ours)
}
