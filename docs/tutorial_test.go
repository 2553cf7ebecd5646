package docs

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestTutorial pastes the tutorial into a shell. Root does that in namespaces,
// where nothing of this machine is in its way and nothing of it is left.
func TestTutorial(t *testing.T) {
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	home, err := os.MkdirTemp("", "tutor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	said := paste(t, home, tutorial(t))
	for _, want := range []string{
		"shop version 2, pid ",                  // a restart
		"shop version 4, pid ",                  // a reload
		"superctl exited with status 1",         // of a broken build
		"cannot start: built without a version", // and why
		"shop version 7, pid ",
		"supervisord ended with status 0",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the tutorial never says %q", want)
		}
	}
	lost := regexp.MustCompile(`(\d+) of 300 requests were lost`).FindAllStringSubmatch(said, -1)
	if len(lost) != 3 || lost[2][1] != "0" {
		t.Errorf("requests were lost, or the reader did not ask three times: %q", lost)
	}
	if t.Failed() {
		second, _ := os.ReadFile(filepath.Join(home, "second"))
		t.Logf("first terminal:\n%s\nsecond terminal:\n%s", said, second)
	}
}

// tutorial is the tutorial as a script of bash.
func tutorial(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	s.WriteString("set -m\n") // an interactive shell has that
	for _, b := range blocks(t, "tutorial.md") {
		switch {
		case b.mark == "not tested":
		case b.name != "":
			fmt.Fprintf(&s, "cat >%s <<'END OF FILE'\n%sEND OF FILE\n", b.name, b.text)
		case b.mark == "second terminal":
			fmt.Fprintf(&s, "exec 3>~/second; (exec %s) >&3 2>&1 & supervisord=$!\n%s", strings.TrimSpace(b.text), whenItAnswers)
		case b.lang == "sh":
			s.WriteString(b.text)
		}
	}
	s.WriteString("kill -INT $supervisord; wait $supervisord; echo \"supervisord ended with status $?\"\n")
	return s.String()
}

// whenItAnswers is the time that a person takes to change terminals.
const whenItAnswers = "for i in $(seq 600); do superctl status >/dev/null 2>&1 && break; sleep 0.1; done\n"

// paste runs a script with a home of its own and returns what it printed.
func paste(t *testing.T, home, script string) string {
	t.Helper()
	argv := []string{"bash", "-c", script}
	if os.Geteuid() == 0 {
		private := "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /var/log && ip link set lo up && exec \"$@\""
		argv = append([]string{"unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", private, "sh"}, argv...)
	} else if c, err := net.Dial("tcp", "127.0.0.1:8080"); err == nil {
		c.Close()
		t.Skip("needs port 8080, and somebody has it")
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = ".."
	cmd.Env = environment(t, home)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		t.Errorf("the tutorial ended with %v", err)
	}
	return out.String()
}

// environment is that of a user who has fetched what go get will ask for.
func environment(t *testing.T, home string) []string {
	t.Helper()
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "CGO_ENABLED=0", "GOSUMDB=off", "GOTOOLCHAIN=local"}
	var cache string
	for _, name := range []string{"GOMODCACHE", "GOCACHE"} {
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
		if name == "GOMODCACHE" {
			cache = strings.TrimSpace(string(out))
		}
	}
	return append(env, "GOPROXY=file://"+filepath.Join(cache, "cache", "download"))
}
