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

// TestTutorial pastes the tutorial into a shell. Root does that under a systemd
// of its own: there nothing of this machine is in its way, and nothing is left.
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
	lost := regexp.MustCompile(`(\d+) of \d+ requests were lost`).FindAllStringSubmatch(said, -1)
	if len(lost) != 3 || lost[2][1] != "0" {
		t.Errorf("requests were lost, or the reader did not ask three times: %q", lost)
	}
	if t.Failed() {
		second, _ := os.ReadFile(filepath.Join(home, "second"))
		t.Logf("first terminal:\n%s\nsecond terminal:\n%s", said, second)
	}
}

// TestSystemdPage follows docs/how-to/systemd.md from top to bottom, as a
// newcomer does, under a systemd of its own.
func TestSystemdPage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it boots a systemd in namespaces of its own")
	}
	home, err := os.MkdirTemp("", "page")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	said := paste(t, home, "set -x; go build -o /srv/api/api ./examples/hello\n"+script(t, "how-to/systemd.md")+"curl -sS http://127.0.0.1/\n")
	for _, want := range []string{"given by systemd", "hello from version 1"} {
		if !strings.Contains(said, want) {
			t.Errorf("it never says %q", want)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}

// tutorial is the tutorial as a script of bash, which ends supervisord as well.
func tutorial(t *testing.T) string {
	t.Helper()
	return strings.Replace(script(t, "tutorial.md"), "go mod init shop\n", "go mod init shop\n"+fetched(t), 1) +
		"set +e; kill -INT $supervisord; wait $supervisord; echo \"supervisord ended with status $?\"\n"
}

// script is what a page asks its reader to type and to save, as a script of bash.
func script(t *testing.T, page string) string {
	t.Helper()
	var s strings.Builder
	s.WriteString("set -m\n") // an interactive shell has that
	s.WriteString("set -e\n") // a reader who sees an error stops
	for _, b := range blocks(t, page) {
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
	return s.String()
}

// fetched lets the tutorial's module use what this one has fetched, so that it
// needs no network.
func fetched(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	return "go mod edit -require=" + strings.Join(strings.Fields(string(out)), "@") + "\n"
}

// whenItAnswers is the time that a person takes to change terminals.
const whenItAnswers = "for i in $(seq 600); do superctl status >/dev/null 2>&1 && break; sleep 0.1; done\n"

// paste runs a script with a home of its own and returns what it printed.
func paste(t *testing.T, home, script string) string {
	t.Helper()
	argv := []string{"bash", "-c", script}
	if os.Geteuid() == 0 {
		if _, err := exec.LookPath("systemctl"); err != nil {
			t.Skip("needs systemd to be root apart from this machine: ", err)
		}
		argv = append([]string{"tools/with-systemd.sh", "--boot-timeout", "300", "--bind", home, "--"}, argv...)
	} else if c, err := net.Dial("tcp", "127.0.0.1:8080"); err == nil {
		c.Close()
		t.Skip("needs port 8080, and somebody has it")
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = ".."
	cmd.Env = environment(t, home)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
	if err := cmd.Run(); err != nil {
		t.Errorf("the page ended with %v", err)
	}
	return out.String()
}

// environment is that of a user. What this repository has fetched is not fetched
// again.
func environment(t *testing.T, home string) []string {
	t.Helper()
	goenv := func(name string) string {
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	cache := goenv("GOMODCACHE")
	return []string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOSUMDB=off",
		"GOMODCACHE=" + cache, "GOCACHE=" + goenv("GOCACHE"),
		"GOPROXY=file://" + filepath.Join(cache, "cache", "download") + "," + goenv("GOPROXY"),
	}
}
