package supervisor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

func TestGenerationsGoOnAfterAReboot(t *testing.T) {
	dir, err := safepath.MakeDir(filepath.Join(t.TempDir(), "state"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	fail := func(err error) { t.Error(err) }
	g := openGenerations(dir, fail)
	g.note("api", 7)
	g.note("worker", 3)
	g.note("api", 8)
	g.close()
	g = openGenerations(dir, fail)
	defer g.close()
	if a, w, none := g.of("api"), g.of("worker"), g.of("web"); a != 8 || w != 3 || none != 0 {
		t.Errorf("api %d, worker %d, web %d; want 8, 3 and 0", a, w, none)
	}
}

func TestDamagedGenerationsCountAsNone(t *testing.T) {
	dir, err := safepath.MakeDir(filepath.Join(t.TempDir(), "state"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.WriteFile(filepath.Join(dir.Path(), generationsFile), []byte(`{"api":`), 0o600); err != nil {
		t.Fatal(err)
	}
	faults := 0
	g := openGenerations(dir, func(error) { faults++ })
	defer g.close()
	if g.of("api") != 0 || faults != 1 {
		t.Errorf("generation %d, %d faults told; want 0 and 1", g.of("api"), faults)
	}
}
