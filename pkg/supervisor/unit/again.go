package unit

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"syscall"
	"time"
)

// Whether an end is followed by a new start, and when. The words, the table and
// the formula are those of systemd.service(5); the jitter and the first restart
// at once are ours.

// clean are the signals whose death is as good as status 0.
var clean = []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE}

// Judge says what an end means to a service that lives like l.
func (l *Life) Judge(e Exit) Result {
	switch e.Kind {
	case ByStatus:
		if e.Code == 0 || slices.Contains(l.Success.Codes, e.Code) {
			return Success
		}
		return ExitCode
	case ByKill:
		if l.Type != Oneshot && slices.Contains(clean, e.Signal) || slices.Contains(l.Success.Signals, e.Signal) {
			return Success
		}
		return Signaled
	case ByDump:
		return CoreDump
	case NotRun:
		return Resources
	}
	return Unknown
}

// follows has, for each policy, the results that are followed by a new start.
var follows = map[Policy]func(Result) bool{
	No:         func(Result) bool { return false },
	Always:     func(Result) bool { return true },
	OnSuccess:  func(r Result) bool { return r == Success },
	OnFailure:  func(r Result) bool { return r != Success },
	OnAbnormal: func(r Result) bool { return r != Success && r != ExitCode },
	OnAbort:    func(r Result) bool { return r == Signaled || r == CoreDump },
	OnWatchdog: func(r Result) bool { return r == WatchdogBit },
}

// again arms in's next start, if its last end is to be followed by one.
func (t *turn) again(in *Instance) {
	l := t.life(in.Gen)
	if t.Removed || !follows[l.Restart](in.Result) {
		return
	}
	if t.exhausted(in, l) {
		in.Result = StartLimitHit
		return
	}
	in.Again++
	in.Due = t.in(t.delay(in, l))
}

// exhausted counts one more automatic restart, unless that is one too many in
// this interval, which begins with the first and begins anew when it is over.
func (t *turn) exhausted(in *Instance, l *Life) bool {
	if l.Burst == 0 {
		return false
	}
	if in.Window == 0 || t.now-in.Window >= Time(l.Interval) {
		in.Window, in.Starts = t.now, 0
	}
	in.Starts++
	return in.Starts > l.Burst
}

// delay is the back-off, spread by up to a quarter so that what crashed together
// does not start together. The first crash after health is made good at once.
func (t *turn) delay(in *Instance, l *Life) time.Duration {
	if in.Crashes <= 1 {
		return 0
	}
	return time.Duration(float64(l.backoff(in.Crashes-1)) * t.jitter(in))
}

// backoff is systemd's delay before restart number k.
func (l *Life) backoff(k int) time.Duration {
	switch {
	case l.RestartSteps == 0 || l.RestartSec == 0 || l.RestartMax <= l.RestartSec || k <= 1:
		return l.RestartSec
	case k > l.RestartSteps:
		return l.RestartMax
	}
	ratio := float64(l.RestartMax) / float64(l.RestartSec)
	return time.Duration(float64(l.RestartSec) * math.Pow(ratio, float64(k-1)/float64(l.RestartSteps)))
}

// jitter is between 0.75 and 1.25, and the same for the same restart.
func (t *turn) jitter(in *Instance) float64 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%d/%d", t.spec(in.Gen).Name, t.place(in), t.LastInv)
	return 0.75 + 0.5*float64(h.Sum32())/math.MaxUint32
}

// place is the number of in.
func (t *turn) place(in *Instance) int {
	for i := range t.Inst {
		if in == &t.Inst[i] {
			return i
		}
	}
	return -1
}

// clear forgets failures, so that what has failed is merely dead.
func (t *turn) clear() {
	for i := range t.Inst {
		in := &t.Inst[i]
		in.Crashes, in.Again, in.Window, in.Starts = 0, 0, 0, 0
		if in.Main.ID == 0 && in.Due == 0 {
			in.Result, in.Exit = Success, Exit{}
		}
	}
}
