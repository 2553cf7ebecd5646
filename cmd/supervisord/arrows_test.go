package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/supervisord-go/supervisord/"

// Arrows point one way. Each package of ours may import what stands beside it,
// and nothing else of ours.
var arrows = map[string]struct {
	may []string
	why string
}{
	"cmd/supervisord":              {[]string{"pkg/ipc", "pkg/supervisor", "pkg/supervisor/config", "pkg/supervisor/logs", "pkg/supervisor/socket", "pkg/supervisor/process", "pkg/supervisor/safepath", "pkg/supervisor/store"}, "main wires, and opens what the Manager is given"},
	"cmd/superctl":                 {[]string{"pkg/ipc", "pkg/supervisor/config", "pkg/supervisor/unit"}, "superctl speaks to supervisord by ipc alone"},
	"pkg/ipc":                      {[]string{"pkg/supervisor/unit", "pkg/supervisor/safepath"}, "ipc declares what it serves, and knows nobody who does"},
	"pkg/supervisor":               {[]string{"pkg/ipc", "pkg/supervisor/config", "pkg/supervisor/doors", "pkg/supervisor/history", "pkg/supervisor/invocation", "pkg/supervisor/ledger", "pkg/supervisor/logs", "pkg/supervisor/metrics", "pkg/supervisor/notify", "pkg/supervisor/process", "pkg/supervisor/safepath", "pkg/supervisor/service", "pkg/supervisor/socket", "pkg/supervisor/store", "pkg/supervisor/unit", "pkg/supervisor/words"}, "the Manager owns all that acts, and wires it"},
	"pkg/supervisor/service":       {[]string{"pkg/supervisor/unit"}, "an actor asks the rules, and knows nobody who does what they order"},
	"pkg/supervisor/invocation":    {[]string{"pkg/supervisor/doors", "pkg/supervisor/logs", "pkg/supervisor/notify", "pkg/supervisor/process", "pkg/supervisor/safepath", "pkg/supervisor/unit"}, "one run of a program knows no service"},
	"pkg/supervisor/doors":         {[]string{"pkg/supervisor/socket", "pkg/supervisor/unit"}, "sockets are opened and closed to clients, whoever serves them"},
	"pkg/supervisor/ledger":        {[]string{"pkg/ipc", "pkg/supervisor/history", "pkg/supervisor/service", "pkg/supervisor/unit", "pkg/supervisor/words"}, "it enters what happened, and makes nothing happen"},
	"pkg/supervisor/words":         {[]string{"pkg/ipc", "pkg/supervisor/process", "pkg/supervisor/service", "pkg/supervisor/unit"}, "words are functions of a view, and decide nothing"},
	"pkg/supervisor/unit":          {nil, "the rules know nothing of who acts on them"},
	"pkg/supervisor/config":        {[]string{"pkg/supervisor/safepath", "pkg/supervisor/unit"}, "a configuration is plain data"},
	"pkg/supervisor/socket":        {[]string{"pkg/supervisor/safepath", "pkg/supervisor/unit"}, "sockets are given to others by number"},
	"pkg/supervisor/process":       {[]string{"pkg/supervisor/cgroup", "pkg/supervisor/process/spawn", "pkg/supervisor/safepath", "pkg/supervisor/unit"}, "a process knows no service"},
	"pkg/supervisor/process/kept":  {[]string{"pkg/supervisor/keeper", "pkg/supervisor/process", "pkg/supervisor/unit"}, "the keeper as a Parent: what it keeps knows no services, and a process no keeper"},
	"pkg/supervisor/process/spawn": {nil, "it runs where nothing of the rest is"},
	"pkg/supervisor/keeper":        {[]string{"pkg/supervisor/process/spawn"}, "who must not die knows no rules"},
	"pkg/supervisor/cgroup":        {[]string{"pkg/supervisor/safepath"}, "files below /sys/fs/cgroup, and no more"},
	"pkg/supervisor/notify":        {[]string{"pkg/supervisor/safepath", "pkg/supervisor/unit"}, "it says what was said, and decides nothing"},
	"pkg/supervisor/logs":          {[]string{"pkg/supervisor/safepath", "pkg/supervisor/unit"}, "output is kept, whatever a service does"},
	"pkg/supervisor/metrics":       {[]string{"pkg/ipc", "pkg/supervisor/socket", "pkg/supervisor/unit"}, "it tells what others know"},
	"pkg/supervisor/store":         {[]string{"pkg/supervisor/safepath"}, "it stores what it is given"},
	"pkg/supervisor/history":       {[]string{"pkg/supervisor/safepath"}, "it keeps lines, and knows nothing of what they tell but that some are lost"},
	"pkg/supervisor/safepath":      {nil, "everybody opens files by it"},
	"pkg/worker":                   {nil, "services import it, and nothing of the daemon with it"},

	"pkg/supervisor/keeper/keepertest": {[]string{"pkg/supervisor/keeper"}, "it runs a keeper beside a test"},
}

// Imports from outside that one package alone may have, or none.
var only = map[string]struct {
	who []string
	why string
}{
	"github.com/BurntSushi/toml": {[]string{"pkg/supervisor/config"}, "TOML is read in one place"},
	"net/http/pprof":             {nil, "it serves what nobody should see on whatever mux there is"},
	"expvar":                     {nil, "it serves what nobody should see on whatever mux there is"},
	"github.com/coreos/go-systemd/v22/activation": {[]string{"cmd/supervisord"}, "only the demo's service takes sockets as a service does; pkg/supervisor/socket reads LISTEN_FDS itself, since os.Files close what they are collected with"},
}

// What may be imported at all by packages that must be small or pure.
var limits = map[string]struct {
	may []string
	why string
}{
	"pkg/supervisor/process/spawn": {[]string{"encoding/binary", "os", "runtime", "strconv", "strings", "syscall", "unsafe"}, "more than supervisord stands on it, and what stands below is little"},
	"pkg/supervisor/keeper":        {[]string{"bytes", "encoding/binary", "errors", "golang.org/x/sys/unix", module + "pkg/supervisor/process/spawn", "math/bits", "os", "os/signal", "runtime", "slices", "strconv", "strings", "sync", "sync/atomic", "syscall", "time", "unsafe"}, "everything stands on it"},
	"pkg/supervisor/unit":          {[]string{"cmp", "fmt", "hash/fnv", "iter", "math", "reflect", "slices", "strconv", "strings", "syscall", "time"}, "no I/O, no clock, no goroutine, no logging"},
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"cmd/...", module+"pkg/...").Output()
	if err != nil {
		t.Fatalf("cannot list the packages: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		name := strings.TrimPrefix(f[0], module)
		for _, imported := range f[1:] {
			judgeImport(t, name, imported)
		}
	}
}

func judgeImport(t *testing.T, name, imported string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(imported, module); ok {
		if rule, known := arrows[name]; known && !slices.Contains(rule.may, ours) {
			t.Errorf("%s must not import %s: %s", name, ours, rule.why)
		}
	}
	if rule, limited := only[imported]; limited && !slices.Contains(rule.who, name) {
		t.Errorf("%s must not import %s: %s", name, imported, rule.why)
	}
	if rule, limited := limits[name]; limited && !slices.Contains(rule.may, imported) {
		t.Errorf("%s must not import %s: %s", name, imported, rule.why)
	}
}

// A new package needs a place in the structure.
func TestEveryPackageHasAPlace(t *testing.T) {
	out, err := exec.Command("go", "list", module+"cmd/...", module+"pkg/...").Output()
	if err != nil {
		t.Fatalf("cannot list the packages: %v", err)
	}
	for _, path := range strings.Fields(string(out)) {
		if _, ok := arrows[strings.TrimPrefix(path, module)]; !ok {
			t.Errorf("%s has no row in the table of arrows", path)
		}
	}
}
