package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A desk is a state directory for numbers.
type desk struct {
	*testing.T
	*safepath.Dir
	faults int
}

func newDesk(t *testing.T) *desk {
	dir, err := safepath.MakeDir(filepath.Join(t.TempDir(), "state"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return &desk{T: t, Dir: dir}
}

func (d *desk) open() *numbers { return openNumbers(d.Dir, func(error) { d.faults++ }) }

// begins says where the numbers of api begin.
func begins(n *numbers) unit.Service {
	all := map[string]unit.Service{"api": {}}
	n.begin(all)
	return all["api"]
}

// After an orderly end numbers go on where they were, also those of a service that
// was not run in between.
func TestNumbersGoOn(t *testing.T) {
	d := newDesk(t)
	n := d.open()
	begins(n)
	n.note("api", 7, 40)
	n.close(12)
	n = d.open()
	n.note("web", 1, 1)
	n.close(n.jobs() + 1)
	n = d.open()
	defer n.close(0)
	if s := begins(n); s.LastGen != 7 || s.LastInv != 40 || n.jobs() != 13 || d.faults != 0 {
		t.Errorf("generation %d, invocation %d, job %d, %d faults; want 7, 40, 13 and none", s.LastGen, s.LastInv, n.jobs(), d.faults)
	}
}

// After a crash no number is used that may have been.
func TestNoNumberIsUsedAgainAfterACrash(t *testing.T) {
	d := newDesk(t)
	n := d.open()
	begins(n)
	n.note("api", 7, 40) // which the disk does not know
	n.job(12)
	m := d.open() // n is never closed
	defer m.close(0)
	if s := begins(m); s.LastGen < 7 || s.LastInv < 40 || m.jobs() < 12 {
		t.Errorf("generation %d, invocation %d, job %d are used again", s.LastGen, s.LastInv, m.jobs())
	}
	n.close(0)
}

// What a runtime directory that outlived the crash knows is exact.
func TestNumbersOfTheRuntimeDirectoryCount(t *testing.T) {
	d := newDesk(t)
	n := d.open()
	defer n.close(0)
	all := map[string]unit.Service{"api": {LastGen: 5000, LastInv: 9}}
	n.begin(all)
	if s := all["api"]; s.LastGen != 5000 || s.LastInv != 9 {
		t.Errorf("generation %d, invocation %d; want 5000 and 9", s.LastGen, s.LastInv)
	}
}

func TestDamagedNumbersCountAsNone(t *testing.T) {
	d := newDesk(t)
	if err := os.WriteFile(filepath.Join(d.Path(), numbersFile), []byte(`{"api":`), 0o600); err != nil {
		t.Fatal(err)
	}
	n := d.open()
	defer n.close(0)
	if s := begins(n); s.LastGen != 0 || d.faults != 1 {
		t.Errorf("generation %d, %d faults told; want 0 and 1", s.LastGen, d.faults)
	}
}

// Services that come and go leave no more than a bound, and still no number is used
// again, here or after a crash.
func TestNumbersOfServicesThatComeAndGo(t *testing.T) {
	d := newDesk(t)
	n := d.open()
	all := map[string]unit.Service{}
	for i := range maxGone + 500 {
		all[fmt.Sprint("n", i)] = unit.Service{}
	}
	n.begin(all)
	for i := range maxGone + 500 {
		name := fmt.Sprint("n", i)
		n.note(name, 7, 40)
		n.forget(name)
		n.forget(name)
	}
	if len(n.used.Services) > maxGone || len(n.gone) > maxGone {
		t.Errorf("the numbers of %d services are kept", len(n.used.Services))
	}
	again := func(n *numbers, when string) {
		t.Helper()
		all := map[string]unit.Service{"n0": {}, fmt.Sprint("n", maxGone+499): {}}
		n.begin(all)
		for name, s := range all {
			if s.LastGen < 7 || s.LastInv < 40 {
				t.Errorf("%s: %s goes on after generation %d, invocation %d", when, name, s.LastGen, s.LastInv)
			}
		}
	}
	again(n, "here")
	n.close(0)
	m := d.open()
	defer m.close(0)
	again(m, "after that")
}

// Somebody has removed the state directory: it is made again.
func TestNumbersInADirectoryThatWasRemoved(t *testing.T) {
	d := newDesk(t)
	n := d.open()
	begins(n)
	n.note("api", 7, 40)
	if err := os.RemoveAll(d.Path()); err != nil {
		t.Fatal(err)
	}
	n.close(12)
	n = d.open()
	defer n.close(0)
	if s := begins(n); s.LastGen != 7 || s.LastInv != 40 || d.faults != 0 {
		t.Errorf("generation %d, invocation %d, %d faults; want 7, 40 and none", s.LastGen, s.LastInv, d.faults)
	}
}
