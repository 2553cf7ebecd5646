package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var (
	boots        = flag.Int("boots", 1, "how often a boot is interrupted, in each way")
	bootServices = flag.Int("boot-services", 50, "how many services each of these boots has")
	seed         = flag.Uint64("boot-seed", 1, "of the moments at which they are interrupted")
)

// ways to interrupt a boot: what is done when some of its services have started,
// the number of which is by chance.
var ways = map[string]func(b *trial){
	"TERM":               func(b *trial) { b.signal(syscall.SIGTERM) },
	"TERM to the group":  func(b *trial) { b.kill(-b.cmd.Process.Pid, syscall.SIGTERM) },
	"INT":                func(b *trial) { b.signal(syscall.SIGINT) },
	"two INT":            func(b *trial) { b.signal(syscall.SIGINT); b.signal(syscall.SIGINT) },
	"HUP and TERM":       func(b *trial) { b.write(b.half()); b.signal(syscall.SIGHUP); b.signal(syscall.SIGTERM) },
	"TERM after HUP":     func(b *trial) { b.reload(); b.signal(syscall.SIGTERM) },
	"TERM, HUP and TERM": func(b *trial) { b.reload(); b.write(b.all()); b.signal(syscall.SIGHUP); b.signal(syscall.SIGTERM) },
}

// A boot that is interrupted ends in order, and leaves nothing behind: what had
// started is stopped, and what was about to does not.
func TestEndDuringTheBoot(t *testing.T) {
	for way, interrupt := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			chance := rand.New(rand.NewPCG(*seed, uint64(len(way))))
			for n := range *boots {
				started := chance.IntN(*bootServices) * (n % 2) // and each other time at once
				t.Run(fmt.Sprint(n, " after ", started), func(t *testing.T) { interrupted(t, started, interrupt) })
			}
		})
	}
}

func interrupted(t *testing.T, started int, interrupt func(*trial)) {
	b := &trial{running: at(t, "")}
	b.write(b.all())
	b.install()
	binaries, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binaries.Supervisord(), "-c", b.path("supervisord.toml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.run(cmd)
	b.line(`"listen"`)
	for range started {
		b.line("started pid")
	}
	interrupt(b)
	b.end(0)
	if left := b.left(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// A trial is a supervisord of many services, whose program is in its directory.
type trial struct{ *running }

func (b *trial) all() string { return b.some(*bootServices) }

// half of the services, and as many others.
func (b *trial) half() string {
	return b.some(*bootServices/2) + strings.ReplaceAll(b.some(*bootServices/2), "[service.s", "[service.other")
}

func (b *trial) some(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "[service.s%d]\nexec_start = [\"$DIR/sleep\", \"1000\"]\n", i)
	}
	return text.String()
}

// reload takes half of the services away.
func (b *trial) reload() {
	b.Helper()
	b.write(b.half())
	b.signal(syscall.SIGHUP)
	b.line("loaded the configuration")
}

func (b *trial) install() {
	b.Helper()
	text, err := os.ReadFile("/bin/sleep")
	if err == nil {
		err = os.WriteFile(b.path("sleep"), text, 0o755)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// left are the processes that its services were, which it kills.
func (b *trial) left() (pids []int) {
	files, _ := filepath.Glob("/proc/[1-9]*/cmdline")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if bytes.Contains(text, []byte(b.path("sleep")+"\x00")) {
			pids = append(pids, pid)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return pids
}
