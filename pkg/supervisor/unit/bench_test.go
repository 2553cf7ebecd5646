package unit

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// What one crash of one of many instances costs, by what sockets they have.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		for name, sockets := range map[string][]*Socket{"none": nil, "shared": {shared(80)}, "own": {shared(80), own("/run/%s")}} {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				s := many(n, sockets...)
				for b.Loop() {
					to, effects := Step(s, now, Exited{1, badly})
					Changes(s, to, effects)
				}
			})
		}
	}
}

// many is a service with n instances that serve.
func many(n int, sockets ...*Socket) Service {
	l := usual
	l.Type, l.Instances, l.Surge = Exec, n, n
	s, _ := Step(Service{Inst: make([]Instance, 1)}, now, asks(1, Start, &Spec{Name: "api", Life: l, Sockets: sockets}, 0))
	for i := range s.Inst {
		p := &s.Inst[i].Main
		p.Phase, p.PID, p.By, p.Since = Serving, 100+i, 0, now-Time(time.Hour)
	}
	s.Job = Job{}
	s.Builds[0].Baked = true
	return s
}

// What a step costs grows with the instances, not with their square.
func TestAStepOfManyInstancesIsCheap(t *testing.T) {
	few, more := bytesOfACrash(100), bytesOfACrash(800)
	if more > 16*few {
		t.Errorf("a crash of one of 100 instances takes %d bytes, one of 800 takes %d", few, more)
	}
}

func bytesOfACrash(n int) uint64 {
	var before, after runtime.MemStats
	s := many(n, shared(80), own("/run/%s"))
	runtime.ReadMemStats(&before)
	to, effects := Step(s, now, Exited{1, badly})
	Changes(s, to, effects)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
