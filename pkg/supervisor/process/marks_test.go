package process

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Reading the environment of a process can take for ever, and it is asked for again and
// again. What waits there is bounded, and so is who waits for it; another user's
// processes are read meanwhile.
func TestEnvironmentsThatCannotBeRead(t *testing.T) {
	defer func(read func(string) []byte) { readEnviron = read }(readEnviron)
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var reading atomic.Int64
		readEnviron = func(dir string) []byte {
			if dir == "well" {
				return []byte("A=1\x00INVOCATION_ID=1\x00")
			}
			reading.Add(1)
			<-stuck
			return nil
		}
		hostile, other := marks{uid: 1, invocation: "INVOCATION_ID=1"}, marks{uid: 2, invocation: "INVOCATION_ID=1"}
		began := time.Now()
		for range 100 {
			if hostile.inEnvironment("stuck") {
				t.Error("it has a mark")
			}
		}
		if n := reading.Load(); n == 0 || n > maxHung {
			t.Errorf("%d wait", n)
		}
		if took := time.Since(began); took > maxHung*environWait {
			t.Errorf("it took %s", took)
		}
		if !other.inEnvironment("well") {
			t.Error("another user's is not read")
		}
		close(stuck)
		synctest.Wait()
		if !hostile.inEnvironment("well") {
			t.Error("it is not read afterwards")
		}
	})
}
