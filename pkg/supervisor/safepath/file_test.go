package safepath

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// oddities fills a directory with what is no plain file of ours.
func oddities(t *testing.T, dir string) map[string]string {
	t.Helper()
	touch(t, dir+"/plain", 0o600, os.Geteuid())
	touch(t, dir+"/one", 0o600, os.Geteuid())
	must(t, os.Link(dir+"/one", dir+"/hard"))
	link(t, "plain", dir+"/link", os.Geteuid())
	must(t, unix.Mkfifo(dir+"/fifo", 0o600))
	must(t, os.Mkdir(dir+"/dir", 0o700))
	want := map[string]string{
		"hard": "2 names", "link": "symbolic link", "fifo": "not a regular file", "dir": "regular file",
	}
	if os.Geteuid() == 0 {
		touch(t, dir+"/theirs", 0o666, stranger)
		want["theirs"] = "belongs to uid 65534"
		must(t, unix.Mknod(dir+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		want["null"] = "not a regular file"
	}
	return want
}

// TestOpenRefusesWhatIsNoPlainFile: at once, and without a byte changed.
func TestOpenRefusesWhatIsNoPlainFile(t *testing.T) {
	dir := scratch(t)
	want := oddities(t, dir)
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	for name, says := range want {
		for _, flag := range []int{os.O_RDONLY, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, os.O_WRONLY | os.O_APPEND} {
			f, err := d.Open(name, flag, 0o600)
			if err == nil {
				f.Close()
			}
			isDir := name == "dir" && (flag != os.O_RDONLY) // EISDIR says it itself
			if err == nil || !isDir && (!errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), says)) {
				t.Errorf("Open(%s, %#x): %v", name, flag, err)
			}
		}
	}
	if text, _ := os.ReadFile(dir + "/hard"); string(text) != "secret\n" {
		t.Errorf("a refused file was changed to %q", text)
	}
	if _, err := d.Open("none", os.O_RDWR, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestOpenCreates: exactly perm, whatever the umask; what was there keeps its
// mode, loses its text when asked, and blocks O_EXCL.
func TestOpenCreates(t *testing.T) {
	dir := scratch(t)
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	old := unix.Umask(0o777)
	f, err := d.Open("log", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	unix.Umask(old)
	must(t, err)
	st, err := f.Stat()
	must(t, err)
	if st.Mode() != 0o640 {
		t.Errorf("mode is %v", st.Mode())
	}
	f.WriteString("old\n")
	must(t, f.Close())

	f, err = d.Open("log", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	must(t, err)
	if st, _ := f.Stat(); st.Size() != 0 || st.Mode() != 0o640 {
		t.Errorf("size %d, mode %v", st.Size(), st.Mode())
	}
	if flags, _ := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
		t.Error("O_NONBLOCK was left on")
	}
	if flags, _ := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("it would leak into children")
	}
	must(t, f.Close())
	if _, err := d.Open("log", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("O_EXCL: %v", err)
	}
	must(t, d.Rename("log", "log.1"))
	must(t, os.Mkdir(dir+"/sub", 0o700))
	names, err := d.Names()
	must(t, err)
	if !slices.Equal(names, []string{"log.1", "sub"}) {
		t.Errorf("names are %q", names)
	}
	must(t, d.Remove("log.1"))
	must(t, d.Remove("sub"))
	if err := d.Remove("log.1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	for _, name := range []string{"..", "../x", "sub/x", ""} {
		_, err := d.Open(name, os.O_RDONLY, 0)
		if err := errors.Join(err, d.Remove(name), d.Rename(name, "x"), d.Rename("x", name)); strings.Count(err.Error(), "not the name of an entry") != 4 {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestReadFileOfRoot is threat T24: the file, every directory above it, and both
// for the target of each link.
func TestReadFileOfRoot(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	mkdir(t, dir+"/theirs", 0o755, stranger)
	touch(t, dir+"/theirs/ours.toml", 0o644, 0)
	mkdir(t, dir+"/sticky", os.ModeSticky|0o777, 0)
	touch(t, dir+"/sticky/ours.toml", 0o644, 0)
	touch(t, dir+"/good.toml", 0o644, 0)
	touch(t, dir+"/their.toml", 0o644, stranger)
	touch(t, dir+"/group.toml", 0o664, 0)
	touch(t, dir+"/store.toml", 0o444, 0)
	must(t, os.Link(dir+"/store.toml", dir+"/again.toml"))
	touch(t, dir+"/else.toml", 0o644, 0)
	must(t, os.Link(dir+"/else.toml", dir+"/sticky/planted.toml"))
	must(t, unix.Mkfifo(dir+"/fifo.toml", 0o644))
	link(t, "good.toml", dir+"/link.toml", 0)
	link(t, "theirs/ours.toml", dir+"/astray.toml", 0)
	link(t, dir+"/good.toml", dir+"/sticky/link.toml", stranger)
	link(t, "none.toml", dir+"/dangling.toml", 0)
	for name, want := range map[string]string{
		"good.toml":           "",
		"link.toml":           "",
		"again.toml":          "",
		"sticky/ours.toml":    "",
		"their.toml":          "/their.toml: it belongs to uid 65534; run it without sudo, or: chown root " + dir + "/their.toml",
		"group.toml":          "others can write to it (mode 0664); chmod go-w " + dir + "/group.toml",
		"theirs/ours.toml":    "/theirs: it belongs to uid 65534",
		"astray.toml":         "/theirs: it belongs to uid 65534",
		"sticky/link.toml":    "symbolic link that others could have put there",
		"sticky/planted.toml": "second name",
		"fifo.toml":           "not a regular file",
		"dangling.toml":       "/none.toml: no such file",
		"good.toml/":          "not a directory",
		"good.toml/x":         "not a directory",
		".":                   "is a directory",
	} {
		text, err := ReadFile(dir+"/"+name, 7)
		if want == "" {
			if err != nil || string(text) != "secret\n" {
				t.Errorf("ReadFile(%s): %q, %v", name, text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "cannot use "+dir, ""), want) {
			t.Errorf("ReadFile(%s): %v, want %q", name, err, want)
		}
	}
	if _, err := ReadFile(dir+"/good.toml", 6); err == nil || !strings.Contains(err.Error(), "larger than 6 bytes") {
		t.Errorf("one byte too many: %v", err)
	}
}

// TestReadFileOfOrdinaryUser: he may read what he likes, but waits for nobody.
func TestReadFileOfOrdinaryUser(t *testing.T) {
	if !asStranger(t) {
		return
	}
	dir := scratch(t)
	must(t, os.Chmod(dir, 0o777))
	touch(t, dir+"/open.toml", 0o666, os.Geteuid())
	must(t, unix.Mkfifo(dir+"/fifo.toml", 0o644))
	if text, err := ReadFile(dir+"/open.toml", 100); err != nil || string(text) != "secret\n" {
		t.Errorf("%q, %v", text, err)
	}
	for name, want := range map[string]string{
		"fifo.toml": "not a regular file", "none.toml": "no such file", "": "not a regular file",
	} {
		if _, err := ReadFile(dir+"/"+name, 100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadFile(%s): %v", name, err)
		}
	}
	if _, err := ReadFile(dir+"/open.toml", 3); err == nil {
		t.Error("a file that is too large was read")
	}
	if _, err := ReadFile("/dev/zero", 3); err == nil {
		t.Error("a device was read")
	}
}

// What has more now and then, such as /proc/kmsg, is not waited for.
func TestReadingWaitsForNothing(t *testing.T) {
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if text, err := slurp(pipe[0], 100); err != unix.EAGAIN {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestReadTrusted: what ReadFile leaves to an ordinary user is not trusted.
func TestReadTrusted(t *testing.T) {
	if !asStranger(t) {
		return
	}
	dir := scratch(t)
	must(t, os.Chmod(dir, 0o755))
	touch(t, dir+"/ours.toml", 0o600, os.Geteuid())
	if text, err := ReadTrusted(dir+"/ours.toml", 100); err != nil || string(text) != "secret\n" {
		t.Errorf("%q, %v", text, err)
	}
	must(t, os.Chmod(dir, 0o777))
	if _, err := ReadTrusted(dir+"/ours.toml", 100); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("in a directory that others write to: %v", err)
	}
}

// TestLock: one holder, who is named to the others; a stranger cannot even open
// the file.
func TestLock(t *testing.T) {
	dir := scratch(t)
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	first, err := d.Lock("x.lock")
	must(t, err)
	_, err = d.Lock("x.lock")
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("the second: %v", err)
	}
	st, err := os.Stat(dir + "/x.lock")
	must(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("mode is %v", st.Mode())
	}
	must(t, first.Unlock())
	second, err := d.Lock("x.lock")
	must(t, err)
	must(t, second.Remove())
	if _, err := os.Stat(dir + "/x.lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was not removed: %v", err)
	}
}

// TestLockOfARemovedFile: whoever got the lock of a file that has no name any
// more has kept nobody out. And a holder removes only its own file.
func TestLockOfARemovedFile(t *testing.T) {
	dir := scratch(t)
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	first, err := d.Lock("x.lock")
	must(t, err)
	must(t, os.Remove(dir+"/x.lock"))
	if gone, err := first.take(); !gone || err != nil {
		t.Errorf("gone = %v, %v", gone, err)
	}
	second, err := d.Lock("x.lock")
	must(t, err)
	must(t, first.Remove())
	if _, err := os.Stat(dir + "/x.lock"); err != nil {
		t.Errorf("the first removed the second's file: %v", err)
	}
	must(t, second.Unlock())
}

// TestLockNotInherited: no child holds it on.
func TestLockNotInherited(t *testing.T) {
	dir := scratch(t)
	d, err := OpenDir(dir)
	must(t, err)
	defer d.Close()
	first, err := d.Lock("x.lock")
	must(t, err)
	child := exec.Command("sleep", "1000")
	must(t, child.Start())
	defer func() { child.Process.Kill(); child.Wait() }()
	must(t, first.Unlock())
	second, err := d.Lock("x.lock")
	must(t, err)
	must(t, second.Remove())
}

// TestChmodByProc is the way for kernels before 6.6.
func TestChmodByProc(t *testing.T) {
	dir := scratch(t)
	touch(t, dir+"/x", 0o600, os.Geteuid())
	fd, err := unix.Open(dir+"/x", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	for mode, chmod := range map[os.FileMode]func(int, uint32) error{0o640: Chmod, 0o660: chmodByProc} {
		must(t, chmod(fd, uint32(mode)))
		if st, _ := os.Stat(dir + "/x"); st.Mode() != mode {
			t.Errorf("mode is %v, not %v", st.Mode(), mode)
		}
	}
}

// TestBecomeThatFails: whoever gives a directory away has nothing left to close.
func TestBecomeThatFails(t *testing.T) {
	d, err := OpenDir(scratch(t))
	must(t, err)
	gone := &Dir{path: "/gone", fd: -1}
	if err := gone.Become(d); !errors.Is(err, unix.EBADF) {
		t.Fatalf("it says %v", err)
	}
	if err := d.Close(); !errors.Is(err, unix.EBADF) {
		t.Errorf("the other one is still open: %v", err)
	}
}

func TestPathsInHintsAreQuotedForAShell(t *testing.T) {
	for path, want := range map[string]string{
		"/etc/supervisord.d/a-1.toml": "/etc/supervisord.d/a-1.toml",
		"/srv/my app":                 "'/srv/my app'",
		"/srv/$(reboot)":              "'/srv/$(reboot)'",
		"/srv/it's":                   `'/srv/it'\''s'`,
		"/srv/grün":                   "'/srv/grün'",
	} {
		if got := quoted(path); got != want {
			t.Errorf("%s is quoted as %s, not %s", path, got, want)
		}
	}
}
