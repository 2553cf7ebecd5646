package words

import (
	"slices"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// Who reloads learns why sockets are shared, and what the new process could not be
// tried with.
func TestSharedForWantOfRights(t *testing.T) {
	sockets := []*unit.Socket{{Name: "http", Unsteered: "steering needs CAP_BPF"}, {Name: "admin"}}
	for _, c := range []struct {
		life unit.Life
		want []string
	}{
		{unit.Life{}, []string{"[socket.http] is shared: steering needs CAP_BPF"}},
		{unit.Life{Canary: 5}, []string{"[socket.http] is shared: steering needs CAP_BPF; canary 5% is not possible"}},
		{unit.Life{Canary: 5, Steer: true}, []string{"[socket.http] is shared: steering needs CAP_BPF"}},
	} {
		if got := Shared(&unit.Spec{Life: c.life, Sockets: sockets}); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := Shared(&unit.Spec{Life: unit.Life{Steer: true}, Sockets: []*unit.Socket{{Name: "http", Steer: true}}}); got != nil {
		t.Errorf("it is steered, and yet: %q", got)
	}
}

// Each phase of an old process ends with something else.
func TestWaitingForOld(t *testing.T) {
	const now = unit.Time(time.Hour)
	for phase, want := range map[unit.Phase]string{
		unit.Settling: "waiting for pid 7 to settle, kill signal in 2s",
		unit.Emptying: "waiting for the queue of pid 7 to get empty, kill signal in 2s at the latest",
		unit.Asked:    "waiting for pid 7 to end, SIGKILL in 2s",
		unit.Told:     "waiting for pid 7 to end after SIGKILL, given up in 2s",
	} {
		if got := waitingForOld(unit.Proc{PID: 7, Phase: phase, By: now + unit.Time(2*time.Second)}, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
