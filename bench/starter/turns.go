package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/bench/turn"
)

// limit is how long a turn may take.
const limit = time.Minute

var (
	errLate    = fmt.Errorf("what was started had not all ended after %v, and was killed", limit)
	errStopped = errors.New("stopped")
)

type turns struct {
	way
	terminate <-chan os.Signal
	stopped   atomic.Bool
}

// do is one turn. Nothing that it has started is left.
func (t *turns) do(o turn.Order) (r turn.Result) {
	done, watched := make(chan struct{}), make(chan error, 1)
	go func() { watched <- t.watch(done) }()
	before, err := t.cpu()
	if err == nil {
		r.Took, err = t.starts(o)
	}
	after, cpuErr := t.cpu()
	close(done)
	r.CPU = after - before
	if err := errors.Join(<-watched, err, cpuErr); err != nil {
		r.Err = err.Error()
	}
	return r
}

func (t *turns) starts(o turn.Order) ([]time.Duration, error) {
	took, errs := make([]time.Duration, o.N), make([]error, o.AtOnce)
	var next atomic.Int64
	var all sync.WaitGroup
	for worker := range o.AtOnce {
		all.Go(func() {
			for errs[worker] == nil && !t.stopped.Load() {
				i := int(next.Add(1)) - 1
				if i >= o.N {
					return
				}
				took[i], errs[worker] = t.start()
			}
		})
	}
	all.Wait()
	return took, errors.Join(errs...)
}

// watch ends a turn that takes too long, or of which nobody wants to know any more.
func (t *turns) watch(done <-chan struct{}) (err error) {
	select {
	case <-done:
		return nil
	case <-t.terminate:
		err = errStopped
	case <-time.After(limit):
		err = errLate
	}
	t.stopped.Store(true)
	for {
		t.killChildren()
		select {
		case <-done:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (t *turns) killChildren() {
	for _, pid := range children() {
		if pid == t.template {
			continue
		}
		if p, err := os.FindProcess(pid); err == nil && parent(pid) == os.Getpid() { // by a pidfd: it stays this one
			p.Kill()
		}
	}
}

func children() (pids []int) {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(f)
			pids = append(pids, pid)
		}
	}
	return pids
}

func parent(pid int) (ppid int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "\nPPid:")
	fmt.Sscan(rest, &ppid)
	return ppid
}

// cpu is the processor time of all that takes part in starts, until now.
func (t *turns) cpu() (sum time.Duration, err error) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0, err
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	if t.template == 0 {
		return sum, nil
	}
	// The first number is nanoseconds on a processor (proc(5)).
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", t.template))
	if os.IsNotExist(err) {
		return 0, errors.New("the template ended, and its processor time is lost: it was killed, or did not answer in time")
	}
	if err != nil {
		return 0, fmt.Errorf("cannot see what the template has cost: %w", err)
	}
	var ran time.Duration
	if _, err := fmt.Sscan(string(text), (*int64)(&ran)); err != nil {
		return 0, fmt.Errorf("cannot see what the template has cost: %w", err)
	}
	return sum + ran, nil
}
