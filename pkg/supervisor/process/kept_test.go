package process_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process"
	"github.com/supervisord-go/supervisord/pkg/supervisor/process/kept"
)

// keeps is the keeper as a Parent, and has files by their keys.
type keeps struct {
	*kept.Parent
	client *keeper.Client
}

func (k keeps) Put(key string, fd int) error { return k.client.Put(key, "", fd) }

func init() {
	process.OtherParent = func(t *testing.T) process.Parent {
		c := keepertest.Serve(t).Manager(keeper.Handler{})
		return keeps{kept.New(c), c}
	}
}

// What is true of processes is true of those that the keeper has.
func TestOverTheKeeper(t *testing.T) {
	const of = "TEST_PARENT"
	if os.Getenv(of) != "" {
		t.Skip("runs within itself")
	}
	if testing.Short() {
		t.Skip("takes as long as much of the rest")
	}
	c := exec.Command("/proc/self/exe", "-test.run", "^Test(KillReaches|Tree|Ends|Daemons|ManyEnd|Escape|Members|Leftovers|UserWho|ThreeHundred|Pinned|DiskThat|EnvironmentFiles)", "-test.v", "-test.timeout=9m")
	c.Env = append(os.Environ(), of+"=keeper")
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}
