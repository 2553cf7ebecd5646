package store

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What lies in another's directory is another's to make again, so its owner is told.
func TestWatchTellsOfWhatOthersLose(t *testing.T) {
	dir := below(t)
	s := open(t, dir)
	defer s.Close()
	_, err := s.Sub("notify", 0o711)
	must(t, err)
	must(t, os.WriteFile(dir+"/notify/socket", nil, 0o600))
	lost := make(chan struct{}, 100)
	stop, err := s.Watch(func() { lost <- struct{}{} })
	must(t, err)
	defer stop()
	must(t, os.Remove(dir+"/notify/socket"))
	<-lost
}

// Stop ends a watch at whatever that is, also when it is just about to tell.
func TestWatchStops(t *testing.T) {
	const some = 40
	var all sync.WaitGroup
	for i := range some {
		dir := below(t)
		s := open(t, dir)
		defer s.Close()
		stop, err := s.Watch(func() {})
		must(t, err)
		must(t, os.Remove(dir+"/supervisord.lock"))
		late := time.NewTimer(grace + time.Duration(i-some/2)*20*time.Microsecond)
		all.Go(func() { <-late.C; stop() })
	}
	all.Wait()
}

const limited = "STORE_TEST_LIMITED"

// Where the user has no watches left, Watch says so.
func TestWatchSaysThatItCannot(t *testing.T) {
	if dir := os.Getenv(limited); dir != "" {
		if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("1"), 0); err != nil {
			fmt.Println("SKIP", err)
			return
		}
		s, err := Open(dir)
		must(t, err)
		stop, err := s.Watch(func() {})
		stop()
		fmt.Println("WATCH", err)
		return
	}
	dir := below(t)
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), limited+"="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	switch {
	case err != nil && len(out) == 0, strings.Contains(string(out), "SKIP"):
		t.Skipf("needs user namespaces: %v, %s", err, out)
	case !strings.Contains(string(out), "no space left on device"):
		t.Errorf("it says %v, %s", err, out)
	}
}

// Where the poller takes no more files, nothing would be heard of.
func TestWatchThatCannotBePolled(t *testing.T) {
	f, err := os.Open("/proc/self/exe") // like an instance that is one too many
	must(t, err)
	defer f.Close()
	if pollable(f) == nil {
		t.Error("it says nothing")
	}
}
