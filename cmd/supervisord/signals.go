package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// The loop that obeys signals waits for nothing but signals: whatever takes its
// time, files above all, is done beside it. So SIGTERM is always heard.

const (
	// bootEnd is how long a boot may still take once it is told to end. No service
	// runs yet, so nothing is left behind when it is not waited for.
	bootEnd = 5 * time.Second
	// closeTime is how long the last things may take, when all services are down.
	closeTime = 15 * time.Second
)

// A boot is an assembly on its way.
type boot struct{ ready chan built }

type built struct {
	d   *assembly
	err error
}

func bootUp(assemble func() (*assembly, error)) *boot {
	b := &boot{make(chan built, 1)}
	go func() {
		d, err := assemble()
		b.ready <- built{d, err}
	}()
	return b
}

// wait waits for the assembly. Without one and without an error it was told to end
// meanwhile, and has. hup: it was told to read its configuration again.
func (b *boot) wait(signals <-chan os.Signal) (d *assembly, hup bool, err error) {
	var end <-chan time.Time
	for {
		select {
		case x := <-b.ready:
			if end != nil && x.d != nil {
				x.d.finish()
				return nil, false, nil
			}
			return x.d, hup, x.err
		case <-end:
			return nil, false, nil
		case s := <-signals:
			switch s {
			case unix.SIGHUP:
				hup = true
			case unix.SIGTERM, unix.SIGINT:
				if end == nil {
					end = time.After(bootEnd)
				}
			}
		}
	}
}

// A services is what signals are about.
type services interface {
	Stop()    // stops all and returns when they are down
	KillAll() // kills all
}

// run obeys signals until one of them says stop and all is down. hup: one came
// already that says to read the configuration again.
func (d *assembly) run(signals <-chan os.Signal, hup bool) {
	ctx, cancel := context.WithCancel(context.Background())
	go d.report(ctx)
	load, reopen, mend := newChore(ctx, d.takeIn), newChore(ctx, d.reopen), newChore(ctx, d.mend)
	unwatch, err := d.store.Watch(mend.ask)
	if err != nil {
		d.log.Warn().Msg(err.Error() + ": what is removed there is noticed later, or at SIGHUP")
	}
	mend.ask() // for what was removed before it was watched
	if hup {
		load.ask()
	}
	obey(signals, d.manager, d.stopping, func(s os.Signal) {
		switch s {
		case unix.SIGHUP:
			mend.ask()
			load.ask()
		case unix.SIGUSR1:
			reopen.ask()
		case unix.SIGUSR2:
			d.log.Warn().Msg("refused SIGUSR2: this version cannot leave its services to another supervisord")
		}
	})
	cancel()
	if !within(flushTime, func() { unwatch(); load.wait(); reopen.wait(); mend.wait() }) {
		d.log.Warn().Msg("did not wait for what a signal had begun: a file system does not answer")
		return // which may still be at what is closed now
	}
	d.finish()
}

// finish closes everything, unless something in it takes for ever: the end of the
// process does that as well.
func (d *assembly) finish() {
	if !within(closeTime, d.close) {
		d.log.Warn().Msg("did not wait for files to be closed: a file system does not answer")
	}
}

// within says whether f has returned in time.
func within(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		return false
	}
}

// obey stops the services at SIGTERM or SIGINT, and returns when they are down. A
// second SIGINT kills them; a second SIGTERM changes nothing. All other signals
// are other's, until the end has begun.
func obey(signals <-chan os.Signal, m services, stopping func(), other func(os.Signal)) {
	var stopped chan struct{}
	for {
		select {
		case <-stopped:
			return
		case s := <-signals:
			switch end := s == unix.SIGTERM || s == unix.SIGINT; {
			case end && stopped == nil:
				stopped = make(chan struct{})
				go func() {
					defer close(stopped)
					stopping()
					m.Stop()
				}()
			case stopped == nil:
				other(s)
			case s == unix.SIGINT:
				go m.KillAll()
			}
		}
	}
}

// stopping says that the end has begun.
func (d *assembly) stopping() {
	d.log.Info().Msg("stopping")
	d.upward.notify("STOPPING=1\nSTATUS=stopping all services")
}

// reopen is SIGUSR1.
func (d *assembly) reopen() {
	d.manager.Reopen()
	d.log.Info().Msg("opened the logs anew")
}

// takeIn is SIGHUP: a daemon-reload that is asked for by a signal.
func (d *assembly) takeIn() {
	r, err := d.manager.DaemonReload(ipc.Caller{UID: uint32(os.Geteuid())})
	if err != nil {
		d.log.Error().Msg(err.Error())
		var e *ipc.Error
		if errors.As(err, &e) {
			for _, n := range e.Notes {
				d.log.Error().Msg(n)
			}
		}
		return
	}
	d.log.Info().Strs("added", r.Added).Strs("removed", r.Removed).Strs("changed", r.Changed).Strs("warnings", r.Warnings).Msg("loaded the configuration")
}

// A chore is something that may take its time, and is done beside whoever asks for
// it. Asked for while it is being done, it is done once more afterwards, however
// often that was.
type chore struct {
	asked chan struct{}
	over  sync.WaitGroup
}

// newChore makes a chore that is done no more when ctx has ended.
func newChore(ctx context.Context, do func()) *chore {
	c := &chore{asked: make(chan struct{}, 1)}
	c.over.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-c.asked:
			}
			if ctx.Err() == nil {
				do()
			}
		}
	})
	return c
}

func (c *chore) ask() {
	select {
	case c.asked <- struct{}{}:
	default:
	}
}

// wait waits until it is done for the last time.
func (c *chore) wait() { c.over.Wait() }
