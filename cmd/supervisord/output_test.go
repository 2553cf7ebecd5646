package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// said is what a supervisord prints on stdout, line by line.
func (r *running) said() (next func() string) {
	r.Helper()
	b, _ := binaries()
	cmd := exec.Command(b.Supervisord(), "-c", r.path("supervisord.toml"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	r.run(cmd)
	lines := bufio.NewScanner(out)
	return func() string {
		r.Helper()
		if !lines.Scan() {
			r.Fatalf("it says nothing more: %v", lines.Err())
		}
		return lines.Text()
	}
}

// What one service prints goes to stdout as it is, so that who collects a container's
// output gets its JSON; with more services, or if it is asked for, names come first.
func TestForwardedLines(t *testing.T) {
	const one = `
[service.api]
exec_start = ["/bin/sh", "-c", "printf '{\"n\":'; echo '1}'; exec sleep 1000"]
`
	for name, test := range map[string]struct{ more, want string }{
		"one service":         {"log.forward = true\n", `{"n":1}`},
		"asked for":           {"log.forward = true\nlog.forward_prefix = true\n", `api[0] | {"n":1}`},
		"several instances":   {"log.forward = true\ninstances = 2\n", `api[`},
		"another service":     {"log.forward = true\n[service.other]\nexec_start = '/bin/sleep 1000'\n", `api[0] | {"n":1}`},
		"another, not wanted": {"log.forward = true\nlog.forward_prefix = false\n[service.other]\nexec_start = '/bin/sleep 1000'\n", `{"n":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			r := at(t, one+test.more)
			if got := r.said()(); !strings.HasPrefix(got, test.want) {
				t.Errorf("it prints %q, want %q", got, test.want)
			}
			r.stop()
		})
	}
}

// A follower ends when its reader has, although the service says nothing more; and when
// what it writes cannot be written, that is an error.
func TestFollowersEndWithTheirReader(t *testing.T) {
	r := at(t, "[service.api]\nexec_start = ['/bin/sh', '-c', 'echo hello; exec sleep 1000']\n")
	r.start()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	follow := exec.Command(r.Superctl, "--socket", r.Socket, "logs", "-f", "api")
	follow.Stdout = in
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(rig.Patience, func() { follow.Process.Kill() }).Stop()
	in.Close()
	bufio.NewReader(out).ReadString('\n')
	out.Close()
	if err := follow.Wait(); err != nil {
		t.Errorf("a follower whose reader has gone: %v", err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"logs", "-f", "api"}, {"logs", "-f", "-o", "json", "api"}, {"logs", "-f", "--raw", "api"}} {
		c := exec.Command(r.Superctl, append([]string{"--socket", r.Socket}, args...)...)
		c.Stdout = full
		defer time.AfterFunc(rig.Patience, func() { c.Process.Kill() }).Stop()
		if err := c.Run(); c.ProcessState.ExitCode() <= 0 {
			t.Errorf("%q to a full disk: %v", args, err)
		}
	}
	r.stop()
}

// Output is found by its time and by its process, also when that has ended.
func TestOutputOfThePast(t *testing.T) {
	r := at(t, "[service.api]\nexec_start = ['/bin/sh', '-c', 'echo I am $INVOCATION_ID; echo $$ >>$DIR/pids; printf \"no end\"; exec sleep 1000']\nrestart = 'always'\nrestart_sec = '1ms'\n")
	next := r.pids()
	r.start()
	first := next()
	r.follow("I am")
	id := strings.Fields(r.ctl(0, "logs", "api"))[2]
	r.kill(first, 9)
	second := next()
	r.follow(string(rune('I')), "--since", "1h")
	if first == second {
		t.Fatal("it was not started again")
	}
	for _, args := range [][]string{{"--invocation", id}, {"--invocation", id[:8], "--since", "1h"}, {"--invocation", id, "--until", "now"}} {
		got := r.ctl(0, append([]string{"logs", "api"}, args...)...)
		if strings.Count(got, "I am") != 1 || !strings.Contains(got, id) {
			t.Errorf("%q: %q", args, got)
		}
	}
	r.has(r.ctl(2, "logs", "api", "--invocation", strings.Repeat("0", 32)), "there is no output of invocation 0000")
	if got := r.ctl(0, "logs", "api", "--until", "2020-01-01"); got != "note: no lines of api until 2020-01-01 00:00:00\n" {
		t.Errorf("there is output of another time: %q", got)
	}
	if got := r.ctl(0, "logs", "api", "--generation", "99", "-o", "json"); got != "note: no lines of api of generation 99\n" {
		t.Errorf("there is output of another generation: %q", got)
	}
	if got := r.ctl(0, "logs", "api", "-t"); !strings.Contains(got, time.Now().Format("2006-01-02T")) {
		t.Errorf("no times: %q", got)
	}
	r.follow("no end") // while the process lives
	r.stop()
}

// Each line names the main process of the invocation that wrote it, also one that a child
// of it wrote, and when the process has been replaced.
func TestLinesNameTheirMainProcess(t *testing.T) {
	r := at(t, `
[service.api]
exec_start = ["/bin/sh", "-c", "echo main; (echo child) & wait; exec sleep 1000"]
`)
	r.start()
	r.follow("child", "api")
	first := r.pid("api")
	r.ctl(0, "restart", "api")
	r.follow("child", "api", "--generation", "2")
	second := r.pid("api")
	want := fmt.Sprint([]int{first, first, second, second})
	if got := fmt.Sprint(r.writers("api")); got != want {
		t.Errorf("the lines name %v, not %v", got, want)
	}
	r.stop()
}

// writers are the pids that the lines of a service name.
func (r *running) writers(service string) (pids []int) {
	r.Helper()
	for line := range strings.Lines(r.ctl(0, "logs", "-o", "json", service)) {
		var l ipc.LogLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			r.Fatalf("%s: %v", line, err)
		}
		if l.Type == "line" {
			pids = append(pids, l.PID)
		}
	}
	return pids
}
