package process

import (
	"encoding/json"
	"syscall"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

func TestIdentityIsOfOneProcess(t *testing.T) {
	each(t, func(t *testing.T, l *Launcher) {
		r := launch(t, l, sh("echo ready; sleep 1000"))
		r.expect("ready")
		text, err := json.Marshal(r.Identity())
		if err != nil {
			t.Fatal(err)
		}
		var i Identity
		if err := json.Unmarshal(text, &i); err != nil || i != r.Identity() {
			t.Fatalf("stored as %s it is %+v: %v", text, i, err)
		}
		if !i.Alive() {
			t.Error("it is said to be dead")
		}
		for name, change := range map[string]func(*Identity){
			"start time": func(i *Identity) { i.StartTime++ },
			"boot":       func(i *Identity) { i.BootID = "another" },
			"pid":        func(i *Identity) { i.PID = 1 },
			"nothing":    func(i *Identity) { *i = Identity{} },
			"pid 0":      func(i *Identity) { i.PID = 0 },
			"pid -1":     func(i *Identity) { i.PID = -1 },
		} {
			other := i
			change(&other)
			if other.Alive() {
				t.Errorf("one with another %s is alive", name)
			}
		}
		if other := i; other.PidfdInode != 0 {
			other.PidfdInode++
			if other.Alive() {
				t.Error("one with another pidfd is alive")
			}
		}
		r.Signal(syscall.SIGKILL, unit.ControlGroup)
		r.Wait()
		if i.Alive() {
			t.Error("a zombie is alive")
		}
		mustGo(t, r.Process)
		if i.Alive() {
			t.Error("a dead process is alive")
		}
	})
}

func TestStatWithAHostileName(t *testing.T) {
	s, err := parseStat([]byte("7 (a) S 1 (b)) R 3 4 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0"))
	if err != nil || s.pid != 7 || s.parent != 3 || s.group != 4 || s.session != 5 || s.start != 99 || s.comm != "a) S 1 (b)" || s.state != 'R' {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []string{"", "7", "(a)", "7 (a", "7 (a) S", "7 (a) S x 4 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0"} {
		if s, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, s)
		}
	}
}
