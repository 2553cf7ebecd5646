package process

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// startedOddly runs a test of this binary as somebody starts supervisord who has
// given it priorities and limits of its own.
func startedOddly(t *testing.T, how, pattern string) {
	t.Helper()
	needsRoot(t)
	for _, tool := range []string{"nice", "ionice", "chrt"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	cmd := exec.Command("/bin/sh", "-c", how+` exec "$@"`, "sh", selfPath(), "-test.run", pattern, "-test.v")
	cmd.Env = append(os.Environ(), "TEST_ODD=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

const oddly = `echo 300 >/proc/self/oom_score_adj; ulimit -Sc unlimited; set -- nice -n 5 ionice -c3 "$@"; `

// What supervisord was given for itself is not for its services.
func TestPrioritiesOfSupervisordAreItsOwn(t *testing.T) {
	startedOddly(t, oddly, "^TestDefaults$")
	startedOddly(t, `echo -500 >/proc/self/oom_score_adj; set -- chrt -f 1 "$@"; `, "^TestDefaults$")
}

func TestDefaults(t *testing.T) {
	if os.Getenv("TEST_ODD") == "" {
		t.Skip("runs within another test")
	}
	l := newTestLauncher(t, Options{})
	task := sh(`read x </proc/self/oom_score_adj; echo "$(nice) $x $(ulimit -Sc) $(ulimit -Hc)"; ionice; chrt -p $$ | head -1 | sed 's/.*: //'`)
	r := launch(t, l, task)
	r.expect("0 0 0 unlimited")
	if got := r.line(); !strings.HasPrefix(got, "none") && got != "best-effort: prio 4" {
		t.Errorf("the io class is %s", got)
	}
	r.expect("SCHED_OTHER")
	if w := r.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
	// What is asked for is given.
	nice, oom := 7, 11
	task = sh(`read x </proc/self/oom_score_adj; echo "$(nice) $x $(ulimit -Sc)"`)
	task.Program.Nice, task.Program.OOMScoreAdj = &nice, &oom
	task.Program.Limits = []unit.Limit{{Resource: unix.RLIMIT_CORE, Soft: 1024, Hard: 2048}}
	launch(t, l, task).expect(fmt.Sprint("7 11 ", 1024/512))
}

// Where it may not be set back it stays, and is said.
func TestWhatStaysIsSaid(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("needs setpriv(1)")
	}
	startedOddly(t, oddly+`set -- setpriv --bounding-set -sys_nice,-sys_resource "$@"; `, "^TestStays$")
}

func TestStays(t *testing.T) {
	if os.Getenv("TEST_ODD") == "" {
		t.Skip("runs within another test")
	}
	l := newTestLauncher(t, Options{})
	r := launch(t, l, sh(`echo ran`))
	r.expect("ran")
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	now, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	want := []string{}
	// Who raised the score with CAP_SYS_RESOURCE has bound those below to it.
	if os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0) != nil {
		want = append(want, "oom_score_adj: it stays at 300 as supervisord has it: cannot set it to 0: permission denied")
	}
	os.WriteFile("/proc/self/oom_score_adj", []byte("300"), 0)
	want = append(want,
		fmt.Sprintf("nice: it stays at %d as supervisord has it: cannot set it to 0: permission denied", 20-now),
	)
	if got := r.Warnings(); !slices.Equal(got, want) {
		t.Errorf("warnings are %q, want %q", got, want)
	}
	oom, nice := -5, 19
	task := sh(`echo ran`)
	task.Program.OOMScoreAdj, task.Program.Nice = &oom, &nice
	task.Program.Limits = []unit.Limit{
		{Resource: unix.RLIMIT_NOFILE, Soft: limit.Max + 1, Hard: limit.Max + 1},
		{Resource: unix.RLIMIT_NPROC, Soft: 100, Hard: 1<<64 - 1},
	}
	unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 9000, Max: 9000})
	r = launch(t, l, task)
	r.expect("ran")
	want = []string{
		"oom_score_adj: asked -5, it stays at 300: permission denied",
		fmt.Sprintf("limit_nofile: asked %d, the hard limit is %d", limit.Max+1, limit.Max),
		"limit_nproc: asked 100:infinity, the hard limit is 9000",
	}
	if got := r.Warnings(); !slices.Equal(got, want) {
		t.Errorf("warnings are %q, want %q", got, want)
	}
}
