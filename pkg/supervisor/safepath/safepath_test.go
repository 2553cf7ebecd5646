package safepath

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const stranger = 65534

// scratch is a directory of ours below a path that nobody else can bend. The
// testing package's own would do for root, but not for other users.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "walk")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes files of several users")
	}
}

// asStranger runs the rest of the calling test once more as an ordinary user,
// and says whether this is that run. /proc/self/exe is for all to run, wherever
// the binary lies.
func asStranger(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("as uid %d: %v\n%s", stranger, err, out)
	}
	return false
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string, mode os.FileMode, uid int) {
	t.Helper()
	must(t, os.Mkdir(path, 0o700))
	must(t, os.Chown(path, uid, uid))
	must(t, os.Chmod(path, mode))
}

func touch(t *testing.T, path string, mode os.FileMode, uid int) {
	t.Helper()
	must(t, os.WriteFile(path, []byte("secret\n"), 0o600))
	must(t, os.Chmod(path, mode))
	must(t, os.Chown(path, uid, uid))
}

func link(t *testing.T, to, path string, uid int) {
	t.Helper()
	must(t, os.Symlink(to, path))
	must(t, os.Lchown(path, uid, uid))
}

// listing is all that lies below a directory, with owner and mode.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		b.WriteString(path + " " + i.Mode().String() + "\n")
		return err
	}))
	return b.String()
}

// TestWalkRefusesWhatOthersCanBend has one path for each way to bend it. The
// component is named, and nothing is made or removed.
func TestWalkRefusesWhatOthersCanBend(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	mkdir(t, dir+"/theirs", 0o755, stranger)
	mkdir(t, dir+"/theirs/ours", 0o755, 0)
	mkdir(t, dir+"/open", 0o777, 0)
	mkdir(t, dir+"/group", 0o775, 0)
	mkdir(t, dir+"/sticky", os.ModeSticky|0o777, 0)
	mkdir(t, dir+"/sticky/theirs", 0o700, stranger)
	mkdir(t, dir+"/good", 0o755, 0)
	link(t, dir+"/good", dir+"/sticky/theirlink", stranger)
	link(t, dir+"/good", dir+"/open/ourlink", 0)
	link(t, dir+"/theirs", dir+"/astray", 0)
	link(t, "around", dir+"/around", 0)
	link(t, dir+"/good", dir+"/two", 0)
	must(t, unix.Linkat(unix.AT_FDCWD, dir+"/two", unix.AT_FDCWD, dir+"/sticky/second", 0))
	touch(t, dir+"/file", 0o644, 0)

	before := listing(t, dir)
	for _, c := range []struct{ path, component, says string }{
		{"/theirs/ours/run", "/theirs", "belongs to uid 65534"},
		{"/open/run", "/open", "mode 0777"},
		{"/group/run", "/group", "mode 0775"},
		{"/sticky/theirs/run", "/sticky/theirs", "belongs to uid 65534"},
		{"/sticky/theirlink/run", "/sticky/theirlink", "symbolic link"},
		{"/sticky/second/run", "/sticky/second", "symbolic link"},
		{"/open/ourlink/run", "/open", "mode 0777"},
		{"/astray/run", "/theirs", "belongs to uid 65534"},
		{"/good/../theirs/ours", "/theirs", "belongs to uid 65534"},
	} {
		for name, open := range map[string]func() (*Dir, error){
			"OpenDir": func() (*Dir, error) { return OpenDir(dir + c.path) },
			"MakeDir": func() (*Dir, error) { return MakeDir(dir+c.path, 0o711) },
		} {
			_, err := open()
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s(%s): %v", name, c.path, err)
				continue
			}
			if e.Component != dir+c.component || !strings.Contains(err.Error(), c.says) || e.Hint == "" {
				t.Errorf("%s(%s) blames %s: %v", name, c.path, e.Component, err)
			}
		}
	}
	for path, want := range map[string]error{
		"/around/run": unix.ELOOP,
		"/file/run":   unix.ENOTDIR,
		"/none/run":   fs.ErrNotExist,
	} {
		if _, err := OpenDir(dir + path); !errors.Is(err, want) {
			t.Errorf("OpenDir(%s): %v, want %v", path, err, want)
		}
	}
	if after := listing(t, dir); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	for _, path := range []string{"", "relative", "./x", "/a\x00b"} {
		if _, err := MakeDir(path, 0o700); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("MakeDir(%q): %v", path, err)
		}
	}
}

// TestWalkFollowsLinksOfRoot: a link in a directory that is closed to others is
// as good as the path that it stands for.
func TestWalkFollowsLinksOfRoot(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	mkdir(t, dir+"/real", 0o755, 0)
	mkdir(t, dir+"/real/sub", 0o755, 0)
	link(t, dir+"/real", dir+"/absolute", 0)
	link(t, "real/sub/..", dir+"/relative", 0)
	link(t, "../absolute/./sub", dir+"/real/chain", 0)
	for path, want := range map[string]string{
		"/absolute/sub":        "/real/sub",
		"/relative/sub/":       "/real/sub",
		"//relative/./chain":   "/real/sub",
		"/absolute/chain/..":   "/real",
		"/absolute/chain/../.": "/real",
	} {
		d, err := OpenDir(dir + path)
		if err != nil {
			t.Errorf("OpenDir(%s): %v", path, err)
			continue
		}
		if d.Path() != dir+want {
			t.Errorf("OpenDir(%s) is at %s", path, d.Path())
		}
		must(t, d.Close())
	}
	// .. at the top stays there.
	d, err := OpenDir("/../../etc/..")
	must(t, err)
	if d.Path() != "/" {
		t.Errorf("it is at %s", d.Path())
	}
	must(t, d.Close())
}

// TestMakeDirWhateverTheUmask: exactly the mode that was asked for, also under
// umasks that would leave nothing or everything of it.
func TestMakeDirWhateverTheUmask(t *testing.T) {
	dir := scratch(t)
	for _, umask := range []int{0, 0o077, 0o777} {
		old := unix.Umask(umask)
		d, err := MakeDir(dir+"/a/b/c", 0o711)
		unix.Umask(old)
		must(t, err)
		for _, path := range []string{"/a", "/a/b", "/a/b/c"} {
			if st, err := os.Stat(dir + path); err != nil || st.Mode().Perm() != 0o711 {
				t.Errorf("umask %04o: %s is %v, %v", umask, path, st.Mode(), err)
			}
		}
		sub, err := d.Sub("notify", 0o700)
		must(t, err)
		must(t, sub.Close())
		must(t, d.Close())
		must(t, os.RemoveAll(dir+"/a"))
	}
}

// TestMakeDirOfWhatIsThere: it must be ours and closed, and is left as it is.
func TestMakeDirOfWhatIsThere(t *testing.T) {
	dir := scratch(t)
	mkdir(t, dir+"/closer", 0o700, os.Geteuid())
	mkdir(t, dir+"/wider", 0o755, os.Geteuid())
	touch(t, dir+"/file", 0o600, os.Geteuid())
	link(t, "closer", dir+"/link", os.Geteuid())
	parent, err := OpenDir(dir)
	must(t, err)
	defer parent.Close()
	for name, want := range map[string]string{
		"closer": "",
		"wider":  "its mode 0755 is open to others; chmod 0711 " + dir + "/wider",
		"file":   "not a directory",
	} {
		d, err := MakeDir(dir+"/"+name, 0o711)
		expect(t, "MakeDir "+name, d, err, want)
		d, err = parent.Sub(name, 0o711)
		expect(t, "Sub "+name, d, err, want)
	}
	d, err := parent.Sub("link", 0o711)
	expect(t, "Sub of a link", d, err, "not a directory")
	if os.Geteuid() == 0 {
		mkdir(t, dir+"/theirs", 0o700, stranger)
		d, err := MakeDir(dir+"/theirs", 0o711)
		expect(t, "MakeDir", d, err, "belongs to uid 65534")
		d, err = parent.Sub("theirs", 0o711)
		expect(t, "Sub", d, err, "it belongs to uid 65534, not to uid 0")
	}
	for _, name := range []string{"", ".", "..", "a/b", "/etc", "a\x00"} {
		if _, err := parent.Sub(name, 0o700); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Sub(%q): %v", name, err)
		}
	}
}

func expect(t *testing.T, what string, d *Dir, err error, want string) {
	t.Helper()
	if err == nil {
		d.Close()
	}
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestMakeLogDirBelowAGroups: the directory above may be a group's, as /var/log
// is on Ubuntu; nothing else may.
func TestMakeLogDirBelowAGroups(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	mkdir(t, dir+"/log", 0o775, 0)
	mkdir(t, dir+"/log/deep", 0o755, 0)
	mkdir(t, dir+"/log/wide", 0o770, 0)
	mkdir(t, dir+"/log/deep/target", 0o700, 0)
	link(t, "deep/target", dir+"/log/link", 0)
	mkdir(t, dir+"/all", 0o777, 0)
	mkdir(t, dir+"/theirs", 0o775, stranger)
	for path, want := range map[string]string{
		"/log/supervisord":  "",
		"/log/supervisord/": "",
		"/log/deep/x":       "/log: others can replace",
		"/log/wide":         "is open to others",
		"/log/link":         "symbolic link that others could have put there",
		"/all/x":            "/all: others can replace",
		"/theirs/x":         "belongs to uid 65534",
	} {
		d, err := MakeLogDir(dir+path, 0o750)
		expect(t, path, d, err, want)
	}
	d, err := MakeDir(dir+"/log/supervisord", 0o750)
	expect(t, "MakeDir", d, err, "/log: others can replace")
}

// TestOrdinaryUserHasTheSameRules: his directories and root's, nobody else's.
func TestOrdinaryUserHasTheSameRules(t *testing.T) {
	if !asStranger(t) {
		return
	}
	dir := scratch(t)
	d, err := MakeDir(dir+"/run/supervisord", 0o711)
	must(t, err)
	must(t, d.Close())
	must(t, os.Chmod(dir+"/run", 0o770))
	_, err = MakeDir(dir+"/run/supervisord", 0o711)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir+"/run: others can replace") {
		t.Errorf("a directory of a group: %v", err)
	}
	if _, err := MakeDir("/var/supervisord-test", 0o711); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EROFS) {
		t.Errorf("a directory of root's: %v", err)
	}
	if _, err := MakeDir("/etc", 0o755); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a directory of root's as our own: %v", err)
	}
}

// TestFlippedDirectory: the owner of a directory turns one of its entries into a
// link and back, as fast as he can. The walk ends at the entry or at an error,
// never where the link leads.
func TestFlippedDirectory(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	mkdir(t, dir+"/target", 0o700, 0)
	mkdir(t, dir+"/theirs", 0o755, stranger)
	mkdir(t, dir+"/theirs/x", 0o755, stranger)
	link(t, dir+"/target", dir+"/theirs/y", stranger)
	flip(t, dir+"/theirs/x", dir+"/theirs/y")
	target, err := os.Stat(dir + "/target")
	must(t, err)
	good := 0
	for range 1000 {
		d, err := OpenForeign(dir + "/theirs/x")
		if err != nil {
			continue
		}
		good++
		st, err := stat(d.FD())
		must(t, err)
		if st.Ino == target.Sys().(*syscall.Stat_t).Ino {
			t.Fatal("the walk was led astray")
		}
		must(t, d.Close())
	}
	t.Logf("%d of 1000 found the directory, the others the link", good)
}

// flip exchanges two names as another user until the test ends.
func flip(t *testing.T, a, b string) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	cmd := exec.Command("/proc/self/exe", a, b)
	cmd.Dir = "/"
	cmd.Env = []string{"FLIP=1"}
	cmd.Stdout = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}, Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	w.Close()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal("the attacker did not start: ", err)
	}
	r.Close()
}

func TestMain(m *testing.M) {
	if os.Getenv("FLIP") != "" {
		flipper(os.Args[1], os.Args[2])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// flipper ends when whoever started it does.
func flipper(a, b string) {
	parent := os.Getppid()
	for i := 0; i%1000 != 0 || os.Getppid() == parent; i++ {
		if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) != nil {
			os.Exit(1)
		}
		if i == 0 {
			os.Stdout.Write([]byte("x"))
		}
	}
}
