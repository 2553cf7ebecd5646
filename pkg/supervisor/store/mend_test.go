package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// What somebody may do to a runtime directory.
var harms = map[string]func(t *testing.T, dir string){
	"all of it":       func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
	"the one above":   func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Dir(dir))) },
	"what is in it":   func(t *testing.T, dir string) { empty(t, dir) },
	"the lock":        func(t *testing.T, dir string) { must(t, os.Remove(dir+"/supervisord.lock")) },
	"the values":      func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/state")) },
	"one value":       func(t *testing.T, dir string) { must(t, os.Remove(dir+"/state/a.json")) },
	"another's sub":   func(t *testing.T, dir string) { must(t, os.RemoveAll(dir+"/notify")) },
	"moved elsewhere": func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+".old")) },
	"made again":      func(t *testing.T, dir string) { must(t, errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o711))) },
}

func empty(t *testing.T, dir string) {
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		must(t, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
}

// below is a runtime directory with one above that can be removed as well.
func below(t *testing.T) string {
	dir := filepath.Join(scratch(t), "above", "run")
	must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	return dir
}

// Whatever is removed is made again by the next thing that needs it, with all that
// was in it, and it is locked again.
func TestWhatIsRemovedIsMadeAgain(t *testing.T) {
	for name, harm := range harms {
		for use, call := range map[string]func(*Store) error{
			"Put":  func(s *Store) error { return errors.Join(s.Put("b", value{Count: 3}), s.Mend()) },
			"Sub":  func(s *Store) error { _, err := s.Sub("notify", 0o711); return errors.Join(err, s.Mend()) },
			"Mend": func(s *Store) error { return s.Mend() },
		} {
			t.Run(name+", then "+use, func(t *testing.T) {
				dir := below(t)
				must(t, os.WriteFile(filepath.Dir(dir)+"/x", nil, 0o600))
				s := open(t, dir)
				notify, err := s.Sub("notify", 0o711)
				must(t, err)
				must(t, s.Put("a", value{Count: 1}))
				must(t, s.Put("b", value{Count: 2}))
				must(t, s.Put("c", value{Count: 2}))
				must(t, s.Delete("c"))
				for range 2 {
					harm(t, dir)
					must(t, call(s))
					os.RemoveAll(dir + ".old")
				}
				f, err := notify.Open("file", os.O_CREATE|os.O_WRONLY, 0o600)
				must(t, err)
				f.Close()
				if _, err := os.Stat(dir + "/notify/file"); err != nil {
					t.Error(err)
				}
				if _, err := Open(dir); !errors.As(err, new(*LockedError)) {
					t.Errorf("a second one: %v", err)
				}
				must(t, s.Close())
				again := open(t, dir)
				defer again.Close()
				var v value
				must(t, again.Get("a", &v))
				if err := again.Get("c", &v); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("what was deleted is back: %v", err)
				}
				must(t, again.Get("b", &v))
				if want := map[bool]int{true: 3, false: 2}[use == "Put"]; v.Count != want {
					t.Errorf("b has %d; want %d", v.Count, want)
				}
			})
		}
	}
}

// The new directories are as the old ones were.
func TestTheNewDirectoryIsAsTheOld(t *testing.T) {
	dir := below(t)
	must(t, os.Mkdir(dir, 0o700))
	if os.Geteuid() == 0 {
		must(t, os.Chown(dir, -1, 4242))
	}
	must(t, unix.Chmod(dir, 0o2710))
	// user::rwx user:4243:r-x group::--x mask::r-x other::---
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 147, 16, 0, 0, 4, 0, 1, 0, 255, 255, 255, 255, 16, 0, 1, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	withACL := unix.Setxattr(dir, "system.posix_acl_access", acl, 0) == nil
	look := func() string {
		var st unix.Stat_t
		must(t, unix.Stat(dir, &st))
		var b [200]byte
		n, _ := unix.Getxattr(dir, "system.posix_acl_access", b[:])
		return fmt.Sprintf("uid %d gid %d mode %o acl %x", st.Uid, st.Gid, st.Mode, b[:max(n, 0)])
	}
	before := look()
	if withACL == strings.HasSuffix(before, "acl ") {
		t.Errorf("it tests no ACL: %s", before)
	}
	s := open(t, dir)
	defer s.Close()
	must(t, os.RemoveAll(dir))
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	must(t, s.Mend())
	if after := look(); after != before {
		t.Errorf("it was %s, and is %s", before, after)
	}
}

// Nobody leads us elsewhere by what he puts there.
func TestWhatIsPutThereIsNotFollowed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	elsewhere := scratch(t)
	must(t, os.MkdirAll(elsewhere, 0o755))
	for name, plant := range map[string]func(dir string) error{
		"a link":                func(dir string) error { return errors.Join(os.Symlink(elsewhere, dir), os.Lchown(dir, 12345, 12345)) },
		"his directory":         func(dir string) error { return errors.Join(os.Mkdir(dir, 0o711), os.Chown(dir, 12345, 12345)) },
		"one for all":           func(dir string) error { return errors.Join(os.Mkdir(dir, 0o711), os.Chmod(dir, 0o777)) },
		"a link for the values": func(dir string) error { return errors.Join(os.Mkdir(dir, 0o711), os.Symlink(elsewhere, dir+"/state")) },
		"a file":                func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
	} {
		dir := below(t)
		s := open(t, dir)
		must(t, s.Put("a", value{Count: 1}))
		must(t, os.RemoveAll(dir))
		must(t, plant(dir))
		if err := s.Put("a", value{Count: 2}); err == nil {
			t.Errorf("%s: it was used", name)
		}
		if left, _ := os.ReadDir(elsewhere); len(left) > 0 {
			t.Errorf("%s: %v was written elsewhere", name, left)
		}
		must(t, os.RemoveAll(dir))
		must(t, s.Put("b", value{Count: 2})) // as soon as it can
		s.Close()
	}
}

// In the moment when there is no directory and no lock, nobody comes in.
func TestGuardKeepsOthersOutMeanwhile(t *testing.T) {
	dir := below(t)
	s := open(t, dir)
	must(t, os.RemoveAll(dir))
	for range 3 {
		_, err := Open(dir)
		var locked *LockedError
		if !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Errorf("a second one: %v", err)
		}
	}
	must(t, s.Put("a", value{}))
	must(t, s.Close())
	must(t, open(t, dir).Close())
	other := below(t) // of the same name
	s = open(t, dir)
	defer s.Close()
	must(t, open(t, other).Close())
}

// Where the guard holds nobody back, the first notices that another has taken the
// directory, and does nothing in it until that one has gone.
func TestFirstNoticesASecond(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, string){"all of it": harms["all of it"], "the lock": harms["the lock"]} {
		dir := below(t)
		s := open(t, dir)
		must(t, s.Put("a", value{Count: 1}))
		s.guard.close()
		harm(t, dir)
		second := open(t, dir)
		must(t, second.Put("a", value{Count: 7}))
		for use, err := range map[string]error{"Put": s.Put("a", value{Count: 2}), "Mend": s.Mend(), "Sub": func() error { _, err := s.Sub("notify", 0o711); return err }()} {
			if !errors.As(err, new(*LockedError)) {
				t.Errorf("%s: %s says %v", name, use, err)
			}
		}
		var v value
		if must(t, second.Get("a", &v)); v.Count != 7 {
			t.Errorf("%s: the second finds %d", name, v.Count)
		}
		second.guard.close() // closed once more below
		second.guard = nil
		must(t, second.Close())
		must(t, s.Put("a", value{Count: 3}))
		s.guard = nil
		must(t, s.Close())
	}
}

// While it is removed again and again, each Put works or says that it did not, and
// nothing stays open.
func TestRemovedAgainAndAgain(t *testing.T) {
	dir := below(t)
	s := open(t, dir)
	before := descriptors(t)
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				os.RemoveAll(dir)
			}
		}
	})
	var puts sync.WaitGroup
	for i := range 4 {
		puts.Go(func() {
			for n := range 50 {
				s.Put(fmt.Sprint("key", i), value{Count: n})
			}
		})
	}
	puts.Wait()
	close(done)
	all.Wait()
	for i := range 4 {
		must(t, s.Put(fmt.Sprint("key", i), value{Count: 50}))
	}
	must(t, s.Mend())
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
	keys, err := s.Keys()
	if err != nil || len(keys) != 4 {
		t.Errorf("keys are %q, %v", keys, err)
	}
	must(t, s.Close())
}

func descriptors(t *testing.T) int {
	open, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(open)
}

// What is removed is noticed without a call, also when it happens again; what the
// store does itself is no such thing.
func TestWatchNotices(t *testing.T) {
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			dir := below(t)
			s := open(t, dir)
			defer s.Close()
			_, err := s.Sub("notify", 0o711)
			must(t, err)
			must(t, s.Put("a", value{}))
			lost := make(chan struct{}, 100)
			stop, err := s.Watch(func() { lost <- struct{}{} })
			must(t, err)
			for range 2 {
				must(t, s.Put("a", value{}))
				must(t, s.Put("b", value{}))
				must(t, s.Delete("b"))
				if len(lost) > 0 {
					t.Error("it was told of what the store did")
				}
				harm(t, dir)
				<-lost
				must(t, s.Mend())
				if !s.isWhole() {
					t.Error("it is not whole")
				}
				os.RemoveAll(dir + ".old")
				for len(lost) > 0 { // several at once, or the mending itself
					<-lost
				}
			}
			stop()
			harm(t, dir)
			must(t, s.Put("a", value{})) // nobody watches
		})
	}
}

// A directory that cannot be made again is made when that becomes possible.
func TestWatchWaitsForTheDirectoryAbove(t *testing.T) {
	dir := below(t)
	s := open(t, dir)
	defer s.Close()
	lost := make(chan struct{}, 100)
	stop, err := s.Watch(func() { lost <- struct{}{} })
	must(t, err)
	defer stop()
	above := filepath.Dir(dir)
	must(t, os.RemoveAll(above))
	must(t, os.WriteFile(above, nil, 0o600))
	<-lost
	if err := s.Mend(); err == nil {
		t.Error("it was made in a file")
	}
	for len(lost) > 0 {
		<-lost
	}
	must(t, os.Remove(above))
	<-lost
	must(t, s.Mend())
	if d, err := safepath.OpenDir(dir); err != nil {
		t.Error(err)
	} else {
		d.Close()
	}
}

// A value that is deleted and put while what was removed is made again is there
// afterwards, and is the new one.
func TestMendingGivesWayToDeleteAndPut(t *testing.T) {
	s := open(t, below(t))
	defer s.Close()
	for n := range 1000 {
		must(t, s.Put("a", value{Count: -1}))
		must(t, os.Remove(s.Runtime().Path()+"/state/a.json"))
		var both sync.WaitGroup
		both.Go(func() { s.writeAgain("a") })
		both.Go(func() { s.writeAgain("a") })
		must(t, s.Delete("a"))
		must(t, s.Put("a", value{Count: n}))
		both.Wait()
		var v value
		if err := s.Get("a", &v); err != nil || v.Count != n {
			t.Fatalf("round %d: it is %+v, %v", n, v, err)
		}
	}
}
