package main

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// A hanging has services that are down when they are told to.
type hanging struct {
	stops int
	kills atomic.Int32
	down  chan struct{}
}

func (h *hanging) Stop()    { h.stops++; <-h.down }
func (h *hanging) KillAll() { h.kills.Add(1) }

// Every order of signals ends once, with everything stopped once.
func TestSignalsOfTheEnd(t *testing.T) {
	const term, intr, hup = unix.SIGTERM, unix.SIGINT, unix.SIGHUP
	for _, c := range []struct {
		signals       []unix.Signal
		kills, others int
	}{
		{[]unix.Signal{term}, 0, 0},
		{[]unix.Signal{term, term, term}, 0, 0},
		{[]unix.Signal{intr, intr, intr}, 2, 0},
		{[]unix.Signal{term, intr}, 1, 0},
		{[]unix.Signal{intr, term}, 0, 0},
		{[]unix.Signal{hup, unix.SIGUSR1, term, hup, unix.SIGUSR1, term}, 0, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			signals, m := make(chan os.Signal), &hanging{down: make(chan struct{})}
			began, others := 0, 0
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				obey(signals, m, func() { began++ }, func(os.Signal) { others++ })
			}()
			for _, s := range c.signals {
				signals <- s
			}
			synctest.Wait()
			select {
			case <-ended:
				t.Fatalf("%v: it ended before the services did", c.signals)
			default:
			}
			close(m.down)
			<-ended
			if m.stops != 1 || began != 1 || int(m.kills.Load()) != c.kills || others != c.others {
				t.Errorf("%v: began %d times, stopped %d times, killed %d times, %d others", c.signals, began, m.stops, m.kills.Load(), others)
			}
		})
	}
}

// While SIGHUP or SIGUSR1 hang on a file system, the end is heard and not held up.
func TestSignalsDoNotWaitForFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		disk, done := make(chan struct{}), 0
		load := newChore(ctx, func() { done++; <-disk })
		signals, m := make(chan os.Signal), &hanging{down: make(chan struct{})}
		close(m.down)
		go func() {
			for range 5 {
				signals <- unix.SIGHUP
				synctest.Wait()
			}
			signals <- unix.SIGTERM
		}()
		obey(signals, m, func() {}, func(os.Signal) { load.ask() })
		cancel()
		began := time.Now()
		if within(time.Second, load.wait) || time.Since(began) != time.Second {
			t.Error("it did not give up what hangs")
		}
		close(disk)
		load.wait()
		if done != 1 {
			t.Errorf("it was done %d times at once, or after the end", done)
		}
	})
}

// What is asked for while it is done is done again, once.
func TestChoreAskedForMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		going, done := make(chan struct{}), 0
		c := newChore(ctx, func() { <-going; done++ })
		for range 4 {
			c.ask()
			synctest.Wait()
		}
		close(going)
		synctest.Wait()
		cancel()
		c.wait()
		if done != 2 {
			t.Errorf("it was done %d times", done)
		}
	})
}

// SIGTERM during the boot, also twice, starts nothing; a boot that hangs is left.
func TestSignalsDuringTheBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 4)
		go func() { signals <- unix.SIGTERM; signals <- unix.SIGHUP; signals <- unix.SIGTERM }()
		hang := make(chan struct{})
		began := time.Now()
		d, _, err := bootUp(func() (*assembly, error) { <-hang; return nil, errors.New("late") }).wait(signals)
		if d != nil || err != nil || time.Since(began) != bootEnd {
			t.Errorf("after %s: %v, %v", time.Since(began), d, err)
		}
		close(hang)
		synctest.Wait()
		close(signals)
	})
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal)
		release := make(chan struct{})
		go func() { signals <- unix.SIGHUP; signals <- unix.SIGUSR1; close(release) }()
		d, hup, err := bootUp(func() (*assembly, error) { <-release; return &assembly{}, nil }).wait(signals)
		if d == nil || err != nil || !hup {
			t.Errorf("%v, %t, %v", d, hup, err)
		}
	})
}

// told goes down when somebody writes to the pipe.
const told = `
[service.api]
exec_start = ["/bin/sh", "-c", "trap 'read x < $DIR/pipe; exit 0' TERM; echo set; while :; do sleep 1 & wait; done"]
[service.api.reload]
bake = "1ms"
`

// Whoever follows a job when supervisord ends is told how it ended, and that this is
// the end of the stream.
func TestWhoFollowsAJobIsToldOfItsEnd(t *testing.T) {
	t.Parallel()
	r := at(t, told)
	if err := unix.Mkfifo(r.path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.follow("set", "api")
	c := r.client()
	defer c.Close()
	c.Patience = 0 // nobody is there to be asked again
	j, err := c.Submit(t.Context(), ipc.JobRequest{Verb: "stop", Unit: "api"})
	if err != nil {
		t.Fatal(err)
	}
	var last ipc.Event
	var failed error
	leaves, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for e, err := range c.JobEvents(t.Context(), j.ID, false) {
			if last, failed = e, err; e.Kind == "leaving" {
				close(leaves)
			}
		}
	}()
	<-leaves
	r.signal(syscall.SIGTERM)
	r.line(`"message":"stopping"`)
	if err := os.WriteFile(r.path("pipe"), []byte("go\n"), 0); err != nil {
		t.Error(err)
	}
	<-over
	if failed != nil || last.State != ipc.JobDone {
		t.Errorf("the last that it is told is %+v, %v", last, failed)
	}
	r.end(0)
}
