package rig

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestUseOfOurselves(t *testing.T) {
	u, err := Use(os.Getpid())
	if err != nil || u.Threads < 1 || u.RSS < 1000 || u.Files < 3 || u.Wakeups < 1 {
		t.Errorf("got %+v, %v", u, err)
	}
}

// A map or a program counts once, and a map is not the program with its number. Other
// descriptors have none of it.
func TestMemoryOfBPF(t *testing.T) {
	const sockarray = "pos:\t0\nmap_type:\t20\nmemlock:\t8448\nmap_id:\t7\nfrozen:\t0\n"
	var m bpfMemory
	for _, info := range []string{
		sockarray, "pos:\t0\nflags:\t02\n", "prog_type:\t33\nmemlock:\t4096\nprog_id:\t7\n", sockarray, "map_type:\t2\nmemlock:\t20480\nmap_id:\t8\n",
	} {
		m.add([]byte(info))
	}
	if want := int64(8448 + 4096 + 20480); m.bytes != want {
		t.Errorf("%d bytes, want %d", m.bytes, want)
	}
	if kib, err := BPF(os.Getpid()); kib != 0 || err != nil {
		t.Errorf("we have %d KiB, %v", kib, err)
	}
}

// A process that has ended and was not waited for is a zombie, and not alive.
func TestZombies(t *testing.T) {
	child := exec.Command("/bin/true")
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 1)) // its end: it exits
	for Alive(child.Process.Pid) {
	}
	if n := Zombies(os.Getpid()); n != 1 {
		t.Errorf("%d zombies, want 1", n)
	}
	child.Wait()
	if n := Zombies(os.Getpid()); n != 0 {
		t.Errorf("%d zombies, want none", n)
	}
}

func TestSweepKillsWhatRunsFromADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := duplicate("/bin/sleep", filepath.Join(dir, "sleep")); err != nil {
		t.Fatal(err)
	}
	left := exec.Command(filepath.Join(dir, "sleep"), "1000")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	if pids := Running(dir); !slices.Contains(pids, left.Process.Pid) {
		t.Errorf("running: %v, without %d", pids, left.Process.Pid)
	}
	if err := Sweep(dir); err == nil {
		t.Error("what was left behind is not an error")
	}
	left.Wait()
	if err := Sweep(dir); err != nil {
		t.Error(err)
	}
}

func TestTallyTakesWhatComesAndNotesWhatDoesNot(t *testing.T) {
	dir := t.TempDir()
	tally, err := ListenTally(filepath.Join(dir, "tally"))
	if err != nil {
		t.Fatal(err)
	}
	defer tally.Close()
	if err := BuildPackages(t.Context(), dir, Module+"/bench/crowd"); err != nil {
		t.Fatal(err)
	}
	crash := exec.Command(filepath.Join(dir, "crowd"), "crash", filepath.Join(dir, "tally"))
	if err := crash.Run(); crash.ProcessState.ExitCode() != 1 {
		t.Fatal(err)
	}
	marks, err := tally.Next(t.Context(), 1, time.Minute)
	if err != nil || marks[0].PID != crash.ProcessState.Pid() {
		t.Errorf("marks %v, %v; want %d", marks, err, crash.ProcessState.Pid())
	}
	if _, err := tally.Next(t.Context(), 1, time.Millisecond); err == nil {
		t.Error("nobody came, and that is no error")
	}
}

func TestReadyIsSaidMoreThanOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ready")
	ready, err := ListenReady(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	c, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exited := make(chan struct{})
	for range 3 {
		c.Write([]byte("READY=1"))
		if err := ready.Wait(t.Context(), exited); err != nil {
			t.Fatal(err)
		}
	}
	close(exited)
	if err := ready.Wait(t.Context(), exited); err == nil {
		t.Error("who has exited is ready")
	}
}
