package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/bench/turn"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A way starts the program and waits until it has ended.
type way struct {
	start    func() (took time.Duration, err error) // took: until the program runs
	template int                                    // a process that does a part of it; 0: none
	close    func()
}

// given is what each program is given.
type given struct {
	program string
	env     []string
	null    int
	sockets [2]int
}

func open(name, dir, program string) (w way, without string, err error) {
	g := given{program: program, env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}}
	if g.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return w, "", err
	}
	for i := range g.sockets {
		if g.sockets[i], err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return w, "", err
		}
	}
	switch name {
	case turn.Exec:
		return way{start: g.exec, close: func() {}}, "", nil
	case turn.Template:
		w, err = g.template()
		return w, "", err
	case turn.Launcher:
		return g.launcher(process.Options{RuntimeDirectory: dir})
	case turn.Sessions:
		return g.launcher(process.Options{RuntimeDirectory: dir, NoCgroups: true})
	}
	return w, "", fmt.Errorf("no way is called %q", name)
}

func (g given) exec() (took time.Duration, err error) {
	null := uintptr(g.null)
	attr := &syscall.ProcAttr{
		Dir: "/", Env: g.env, Sys: &syscall.SysProcAttr{Setsid: true},
		Files: []uintptr{null, null, null, uintptr(g.sockets[0]), uintptr(g.sockets[1])},
	}
	begin := time.Now()
	pid, _, err := syscall.StartProcess(g.program, []string{g.program}, attr)
	if err != nil {
		return 0, err
	}
	took = time.Since(begin)
	return took, wait(pid)
}

// wait reaps a program, however it has ended: a service may exit as it likes.
func wait(pid int) error {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return os.NewSyscallError("wait4", err)
		}
	}
}

func (g given) launcher(o process.Options) (w way, without string, err error) {
	l, err := process.NewLauncher(o)
	if err != nil {
		return w, "", err
	}
	if _, without = l.Tracking(); without != "" && !o.NoCgroups {
		return w, "there are no cgroups: " + without, l.Close()
	}
	w.close = func() { l.Close() }
	if pids := children(); len(pids) == 1 {
		w.template = pids[0]
	} else {
		w.close()
		return w, "", fmt.Errorf("the launcher has begun with the children %v, not with its template alone", pids)
	}
	var id atomic.Int64
	w.start = func() (took time.Duration, err error) {
		ctx := context.Background()
		task := g.task(unit.Invocation(id.Add(1)))
		begin := time.Now()
		p, err := l.Launch(ctx, task, nil)
		if err != nil {
			return 0, err
		}
		took = time.Since(begin)
		return took, p.WaitGone(ctx)
	}
	return w, "", nil
}

func (g given) task(id unit.Invocation) process.Task {
	p := &unit.Program{Path: g.program, Argv: []string{g.program}, Dir: "/", Umask: 0o22}
	for _, l := range limits {
		p.Limits = append(p.Limits, unit.Limit{Resource: l.resource, Soft: l.soft, Hard: l.hard})
	}
	return process.Task{
		ID: id, Service: "bench", Program: p, Output: -1,
		Sockets: []process.File{{FD: g.sockets[0], Name: "http"}, {FD: g.sockets[1], Name: "metrics"}},
	}
}

var limits = []struct {
	resource   int
	soft, hard uint64
}{
	{unix.RLIMIT_CORE, 0, 0},
	{unix.RLIMIT_NOFILE, 1024, 4096},
	{unix.RLIMIT_NPROC, 4096, 4096},
}
