package socket

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// What a process does in a loop is told every ten seconds, with how often; what others
// must act on is told each time.
func TestRepeatsAreToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(func(string) {})
		var told []Finding
		w.tell = func(_ string, f Finding) { told = append(told, f) }
		for range 301 { // half a minute
			w.say("http", []Finding{{What: "shut it down", Mended: "it listens again"}})
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if len(told) != 4 || told[0].Again != 0 || told[1].Again != 99 || told[3].Again != 99 {
			t.Errorf("told: %+v", told)
		}
		told = nil
		for i := range 10 {
			w.say("http", []Finding{{What: "removed its path", Dead: uint64(i + 1)}, {What: "set SO_LINGER", Err: errors.ErrUnsupported}})
		}
		synctest.Wait()
		if len(told) != 20 {
			t.Errorf("of 20 that matter %d are told", len(told))
		}
		w.close()
	})
}

// However many things are done, no more are remembered than some.
func TestRepeatsAreBounded(t *testing.T) {
	r, now := repeats{}, time.Now()
	for i := range 3 * maxRepeats {
		if !r.due("http", &Finding{What: fmt.Sprint(i)}, now) || len(r) > maxRepeats {
			t.Fatalf("number %d, of %d", i, len(r))
		}
	}
}
