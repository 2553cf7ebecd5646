package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A program that has proven itself is started again from its own file, also when
// the path holds another by now.
func TestPinnedProgramIsWhatRan(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	copyFile(t, path, "/bin/echo", 0o755)
	l := newTestLauncher(t, Options{})
	task := Task{Program: &unit.Program{Argv: []string{"program", "good"}, Path: path}}
	var pinned *Executable
	first, err := tryLaunch(t, l, task, func(p *Process) error { pinned = p.Executable(); return nil })
	if err != nil || pinned == nil {
		t.Fatalf("there is no handle on the program's file: %v", err)
	}
	defer pinned.Close()
	first.expect("good")
	mustGo(t, first.Process)
	if first.Executable() != nil {
		t.Error("a process that is gone still holds its file")
	}
	if pinned.Moved() || pinned.Differs(path) {
		t.Error("the file is said to have changed")
	}

	copyFile(t, path+".new", "/bin/false", 0o755)
	os.Rename(path+".new", path)
	if !pinned.Differs(path) {
		t.Error("another file at the path goes unnoticed")
	}
	if exit := launch(t, l, task).Wait(); exit.Code != 1 {
		t.Errorf("the path runs something that ends with %+v, not false", exit)
	}
	task.Executable = pinned
	launch(t, l, task).expect("good")
	os.Remove(path)
	again := launch(t, l, task)
	again.expect("good")
	if !pinned.Moved() { // it lost a link, which changes its ctime
		t.Error("a file that was unlinked is said to be as it was")
	}
}

func TestFileThatIsWrittenInPlaceHasMoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	copyFile(t, path, "/bin/true", 0o755)
	e, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("x")
	f.Close()
	if !e.Moved() || e.Differs(path) {
		t.Errorf("moved %v, differs %v", e.Moved(), e.Differs(path))
	}
	e.Close()
	if !e.Moved() || e.Close() != nil || e.duplicate() != nil {
		t.Error("a closed handle is good for something")
	}
}

// The interpreter opens a script by its path, so there is nothing to pin.
func TestScriptRunsByItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	os.WriteFile(path, []byte("#!/bin/sh\necho $0 $1\n"), 0o755)
	l := newTestLauncher(t, Options{})
	r := launch(t, l, Task{Program: &unit.Program{Argv: []string{"whatever", "arg"}, Path: path}})
	r.expect(path + " arg")
	if r.Executable() != nil {
		t.Error("a script was pinned")
	}
}

// A program keeps the name of its path in ps, top and pgrep, as under systemd:
// not that of a symbolic link's target, nor the number of an fd.
func TestProgramIsCalledByItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snooze")
	if err := os.Symlink("/bin/sleep", path); err != nil {
		t.Fatal(err)
	}
	l := newTestLauncher(t, Options{})
	task := Task{Program: &unit.Program{Argv: []string{"x", "1000"}, Path: path}}
	r := launch(t, l, task)
	wantComm(t, r.Process, "snooze")
	task.Executable = r.Executable()
	wantComm(t, launch(t, l, task).Process, "snooze")
}

func wantComm(t *testing.T, p *Process, want string) {
	t.Helper()
	s, err := readStat(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if s.comm != want {
		t.Errorf("the process is called %q, not %q", s.comm, want)
	}
}
