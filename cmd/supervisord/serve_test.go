package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A thousand changes of state at once are one message or two, the last of which is
// true; one that changes nothing is none.
func TestManyChangesAreOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var active atomic.Int64
		messages := make(chan string, 1000)
		summary := func() string { return fmt.Sprint(active.Load()) }
		c := newChore(ctx, atMostEvery(ctx, statusPause, changed(summary, func(s string) { messages <- s })))
		began := time.Now()
		for range 1000 {
			active.Add(1)
			c.ask()
			synctest.Wait()
		}
		time.Sleep(3 * statusPause)
		if n, first, last := len(messages), <-messages, <-messages; n != 2 || first != "1" || last != "1000" {
			t.Errorf("systemd is told %d times, first %s and then %s", n, first, last)
		}
		c.ask()
		time.Sleep(3 * statusPause)
		if len(messages) > 0 {
			t.Errorf("what has not changed is told again: %s", <-messages)
		}
		active.Store(0)
		c.ask()
		cancel()
		c.wait()
		if took := time.Since(began); took > 7*statusPause {
			t.Errorf("it ends after %v", took)
		}
	})
}
