package load

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"
)

// Who gets no answer in time hangs if somebody was answered who came later. If nobody
// was, the service was down for all, and the request is only lost.
func TestWhoWasOvertakenHangs(t *testing.T) {
	silent := server(t, func(_ net.Conn, r *bufio.Reader) {
		for {
			if _, err := r.ReadByte(); err != nil { // until the client has had enough
				return
			}
		}
	})
	for _, test := range []struct {
		name  string
		later time.Duration // than the silent request began, another that was answered did
		want  int64
	}{
		{"before", -time.Hour, 0},
		{"after", time.Hour, 1},
	} {
		w := NewWitness()
		silent.Mode, silent.Timeout, silent.Witness = get, 50*time.Millisecond, w
		w.base = w.base.Add(-2 * time.Hour)
		w.answered(time.Now().Add(test.later))
		got := Run(t.Context(), silent)
		if got.Hanging != test.want || got.Failed != 1 || got.Failures[TimedOut] != 1 {
			t.Errorf("another began %s: %d hang, failures %v; want %d", test.name, got.Hanging, got.Failures, test.want)
		}
	}
	if sum := Sum("", &Result{Hanging: 2}, &Result{Hanging: 3}); sum.Hanging != 5 {
		t.Errorf("2 and 3 that hang are %d", sum.Hanging)
	}
}

// Only silence is hanging: who was reset has an answer of a kind.
func TestOtherLossesAreNotHanging(t *testing.T) {
	o := server(t, func(c net.Conn, r *bufio.Reader) { asked(r) })
	o.Mode, o.Witness = get, NewWitness()
	o.Witness.answered(time.Now().Add(time.Hour))
	if got := Run(t.Context(), o); got.Failures[Closed] != 1 || got.Hanging != 0 {
		t.Errorf("%d hang, failures %v", got.Hanging, got.Failures)
	}
}

// The witness keeps the latest, whatever the order in which answers come, and is told
// of each by the clients.
func TestWitness(t *testing.T) {
	w := NewWitness()
	now := time.Now()
	w.answered(now.Add(3 * time.Second))
	w.answered(now.Add(time.Second))
	if !w.overtaken(now.Add(2*time.Second)) || w.overtaken(now.Add(4*time.Second)) {
		t.Error("it forgot the latest answer")
	}
	var none *Witness
	none.answered(now)
	if none.overtaken(now) {
		t.Error("nobody has seen anything")
	}
	o := server(t, func(c net.Conn, r *bufio.Reader) { fmt.Fprint(c, answered(asked(r), "")) })
	o.Mode, o.Witness = fresh, NewWitness()
	began := time.Now()
	if Run(t.Context(), o); !o.Witness.overtaken(began) {
		t.Error("an answer was not told")
	}
}
