package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// answers is a directory that says what it is told to, by database and key.
func answers(says map[string]string) *directory {
	ask := func(_ context.Context, database, key string) (string, error) {
		text, ok := says[database+" "+key]
		if !ok {
			return "", errUnknown
		}
		return text, nil
	}
	return &directory{ask: ask, local: func(u passwd) ([]uint32, error) { return []uint32{u.gid}, nil }}
}

func TestUserOfADirectory(t *testing.T) {
	d := answers(map[string]string{
		"passwd ldapuser":     "ldapuser:*:70001:70002:L. Dap:/home/ldapuser:/bin/zsh\n",
		"passwd 70001":        "ldapuser:*:70001:70002:L. Dap:/home/ldapuser:/bin/zsh\n",
		"initgroups ldapuser": "ldapuser              70002 70003 70004\n",
		"group ldapgroup":     "ldapgroup:*:70005:ldapuser,other\n",
	})
	full := Account{
		UID: 70001, GID: 70002, Groups: []uint32{70002, 70003, 70004},
		Name: "ldapuser", Home: "/home/ldapuser", Shell: "/bin/zsh", Set: true,
	}
	both := full
	both.GID, both.Groups = 70005, []uint32{70002, 70003, 70004, 70005}
	for _, c := range []struct {
		user, group string
		want        Account
	}{
		{"ldapuser", "", full},
		{"ldapuser", "ldapgroup", both},
		{"70001", "", full}, // its group comes from there
		{"70001", "70002", Account{UID: 70001, GID: 70002, Groups: []uint32{70002}, Set: true}}, // and is not asked for here
	} {
		got, err := d.resolve(t.Context(), &unit.Program{User: c.user, Group: c.group})
		if err != nil {
			t.Errorf("%s:%s: %v", c.user, c.group, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:%s: want (-), got (+):\n%s", c.user, c.group, diff)
		}
	}
}

// A file's owner is looked up by the rules for who runs a program, and needs no more than
// the numbers.
func TestOwnerOfAFile(t *testing.T) {
	d := answers(map[string]string{
		"passwd ldapuser": "ldapuser:*:70001:70002::/home/ldapuser:/bin/sh\n",
		"group ldapgroup": "ldapgroup:*:70005:\n",
		"passwd roots":    "roots:*:0:70002::/:/bin/sh\n",
		"group roots":     "roots:*:0:\n",
	})
	t.Setenv("USER", "ldapuser") // is not believed, as os/user would
	for _, c := range []struct {
		user, group string
		uid, gid    int
		says        string
	}{
		{"", "", -1, -1, ""},
		{"root", "root", 0, 0, ""},
		{"ldapuser", "", 70001, -1, ""},
		{"", "ldapgroup", -1, 70005, ""},
		{"70001", "70009", 70001, 70009, ""}, // nobody is asked
		{"ldapuser", "nogroup-by-this-name", -1, -1, `cannot use group "nogroup-by-this-name": it cannot be looked up in /etc/passwd or /etc/group, nor by getent`},
		{"ldapuse", "", -1, -1, `cannot use user "ldapuse": it cannot be looked up in /etc/passwd or /etc/group, nor by getent`},
		{"roots", "", -1, -1, `cannot use user "roots": a directory says that it has root's number; only /etc/passwd and /etc/group may`},
		{"", "roots", -1, -1, `cannot use group "roots": a directory says that it has root's number; only /etc/passwd and /etc/group may`},
	} {
		uid, gid, err := d.owner(t.Context(), c.user, c.group)
		says := ""
		if err != nil {
			says = err.Error()
		}
		if uid != c.uid || gid != c.gid || says != c.says {
			t.Errorf("%s:%s is %d:%d, %q", c.user, c.group, uid, gid, says)
		}
	}
}

// Whatever a directory says, it is what was asked for, whole, and not root.
func TestHostileDirectory(t *testing.T) {
	const good = "u:*:70001:70002::/home/u:/bin/sh\n"
	for name, says := range map[string]map[string]string{
		"another user":      {"passwd u": "v:*:70001:70002::/:/bin/sh\n"},
		"another case":      {"passwd u": "U:*:70001:70002::/:/bin/sh\n"},
		"root's number":     {"passwd u": "u:*:0:70002::/:/bin/sh\n"},
		"root's group":      {"passwd u": "u:*:70001:0::/:/bin/sh\n"},
		"no change":         {"passwd u": "u:*:4294967295:70002::/:/bin/sh\n"},
		"16 bits":           {"passwd u": "u:*:65535:70002::/:/bin/sh\n"},
		"negative":          {"passwd u": "u:*:-1:70002::/:/bin/sh\n"},
		"two lines":         {"passwd u": good + good},
		"no end":            {"passwd u": strings.TrimSpace(good)},
		"nothing":           {"passwd u": ""},
		"an empty line":     {"passwd u": "\n"},
		"too few fields":    {"passwd u": "u:*:70001:70002:/bin/sh\n"},
		"too many":          {"passwd u": "u:*:70001:70002::/:/bin/sh:\n"},
		"control bytes":     {"passwd u": "u:*:70001:70002::/home\x1b[2J:/bin/sh\n"},
		"a NUL":             {"passwd u": "u:*:70001:70002::/home/u\x00:/bin/sh\n"},
		"no groups":         {"passwd u": good},
		"another's groups":  {"passwd u": good, "initgroups u": "v 70002\n"},
		"root among groups": {"passwd u": good, "initgroups u": "u 70002 0\n"},
		"groups of text":    {"passwd u": good, "initgroups u": "u wheel\n"},
		"groups in lines":   {"passwd u": good, "initgroups u": "u 70002\nu 0\n"},
	} {
		a, err := answers(says).resolve(t.Context(), &unit.Program{User: "u"})
		if err == nil {
			t.Errorf("%s: it is %+v", name, a)
			continue
		}
		mustFail(t, err, "user", 217, 0)
		if strings.ContainsAny(err.Error(), "\x1b\x00\n") {
			t.Errorf("%s: the error quotes it: %q", name, err)
		}
	}
	for name, line := range map[string]string{
		"root's": "g:*:0:\n", "another": "h:*:70005:\n", "text": "g:*:x:\n", "short": "g:70005\n", "two": "g:*:70005:\ng:*:0:\n",
	} {
		if a, err := answers(map[string]string{"group g": line}).resolve(t.Context(), &unit.Program{Group: "g"}); err == nil {
			t.Errorf("group, %s: it is %+v", name, a)
		}
	}
}

// Who is in root's group is for /etc/group to say, of a directory's users too.
func TestUserOfADirectoryInRootsGroup(t *testing.T) {
	d := answers(map[string]string{"passwd u": "u:*:70001:70002::/home/u:/bin/sh\n", "initgroups u": "u 70002 0\n"})
	_, err := d.resolve(t.Context(), &unit.Program{User: "u"})
	const want = `cannot use user "u": its groups cannot be looked up: a directory says that it is in root's group; only /etc/group may`
	if err == nil || err.Error() != want {
		t.Errorf("it says %v", err)
	}
	d.local = func(u passwd) ([]uint32, error) { return []uint32{u.gid, 0}, nil }
	a, err := d.resolve(t.Context(), &unit.Program{User: "u"})
	if diff := cmp.Diff([]uint32{70002, 0}, a.Groups); err != nil || diff != "" {
		t.Errorf("%v, want (-), got (+):\n%s", err, diff)
	}
}

// An error is in words, not in those of a library.
func TestGetentErrors(t *testing.T) {
	for err, want := range map[error]string{
		context.DeadlineExceeded: "getent does not answer",
		context.Canceled:         "getent is not waited for any longer",
		unix.EMFILE:              "getent fails: too many open files",
	} {
		if got := (&getentError{err}).Error(); got != want {
			t.Errorf("%v: it says %q", err, got)
		}
	}
}

func TestHintsOfAccounts(t *testing.T) {
	for want, ask := range map[string]error{
		"give a numeric user and group":                                      errUnknown,
		"need getent(1), which is not installed":                             errNoGetent,
		"a numeric user and group need no directory: getent passwd ldapuser": &getentError{context.DeadlineExceeded},
	} {
		d := answers(nil)
		d.ask = func(context.Context, string, string) (string, error) { return "", ask }
		_, err := d.resolve(t.Context(), &unit.Program{User: "ldapuser"})
		if e := mustFail(t, err, "user", 217, 0); !strings.Contains(e.Hint(), want) {
			t.Errorf("%v: hint is %q", ask, e.Hint())
		}
		_, err = d.resolve(t.Context(), &unit.Program{User: "0", Group: "ldapgroup"})
		if e := mustFail(t, err, "group", 216, 0); !strings.Contains(e.Hint(), strings.NewReplacer("passwd ldapuser", "group ldapgroup").Replace(want)) {
			t.Errorf("%v: hint for a group is %q", ask, e.Hint())
		}
		if _, err = d.resolve(t.Context(), &unit.Program{User: "daemon"}); err != nil {
			t.Errorf("a local user is not found: %v", err)
		}
	}
}

// What getent itself does is bounded: in what it says, and in how long it takes.
func TestGetentThatMisbehaves(t *testing.T) {
	dir := t.TempDir()
	script := func(text string) string {
		path := filepath.Join(dir, "getent")
		os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755)
		return path
	}
	run := func(ctx context.Context, path string) (string, unit.Exit, error) {
		gone := make(chan struct{})
		defer func() { <-gone }()
		return runGetent(ctx, []string{path, "passwd", "u"}, func() { close(gone) })
	}
	files := openFDs(t)
	t.Run("answers", func(t *testing.T) {
		text, exit, err := run(t.Context(), script(`echo "$1:$2"; env | grep -v ^PWD= >&2; read x; echo "$x"`))
		if text != "passwd:u\n\n" || err != nil || exit != (unit.Exit{Kind: unit.ByStatus}) {
			t.Errorf("got %q, %+v, %v", text, exit, err)
		}
	})
	t.Run("does not end", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		path := script(`echo half; kill -STOP $$; sleep 1000`)
		cancel()
		if _, _, err := run(ctx, path); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("says too much", func(t *testing.T) {
		if _, _, err := run(t.Context(), script(`while echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done 2>/dev/null`)); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("is not executable", func(t *testing.T) {
		if _, _, err := run(t.Context(), "/no/such"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	if now := openFDs(t); now != files {
		t.Errorf("%d descriptors are open, were %d", now, files)
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if len(own.pids) > 0 {
		t.Errorf("still registered: %v", own.pids)
	}
}

// The real one, where it is, is asked and has no such user.
func TestRealGetent(t *testing.T) {
	if findGetent() == "" {
		t.Skip("needs getent(1)")
	}
	if _, err := askGetent(t.Context(), "passwd", "nobody-by-this-name"); err != errUnknown {
		t.Errorf("got %v", err)
	}
	text, err := askGetent(t.Context(), "initgroups", "daemon")
	if err != nil || !strings.HasPrefix(text, "daemon") {
		t.Errorf("got %q, %v", text, err)
	}
}

// One that waits for a disk cannot be killed, and is not waited for. Its place is taken
// until it is gone.
func TestGetentThatCannotBeKilled(t *testing.T) {
	needsRoot(t)
	freezer, err := os.MkdirTemp("/sys/fs/cgroup/freezer", "getent")
	if err != nil {
		t.Skip("needs the freezer of cgroup v1, from which nothing can be killed: ", err)
	}
	defer os.Remove(freezer)
	path := filepath.Join(t.TempDir(), "getent")
	text := "#!/bin/sh\necho $$ > " + freezer + "/cgroup.procs\nexec >&-\necho FROZEN > " + freezer + "/freezer.state\nsleep 100\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone, answered := make(chan struct{}), make(chan error)
	go func() {
		_, _, err := runGetent(ctx, []string{path, "passwd", "u"}, func() { close(gone) })
		answered <- err
	}()
	eventually(t, "it is frozen", func() bool {
		state, _ := os.ReadFile(freezer + "/freezer.state")
		return string(state) == "FROZEN\n"
	})
	cancel()
	late := time.AfterFunc(20*time.Second, func() { os.WriteFile(freezer+"/freezer.state", []byte("THAWED"), 0) })
	if err := <-answered; !errors.Is(err, context.Canceled) || !late.Stop() {
		t.Errorf("it was waited for: %v", err)
	}
	select {
	case <-gone:
		t.Error("its place is free, and it is still there")
	default:
	}
	os.WriteFile(freezer+"/freezer.state", []byte("THAWED"), 0)
	<-gone
	eventually(t, "nothing is left of it", func() bool { return os.Remove(freezer) == nil })
}
