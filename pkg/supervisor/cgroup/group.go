package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Group is the cgroup of one invocation, with whatever cgroups the invocation
// makes below it.
type Group struct {
	tree *Tree
	path string
}

// Find is the cgroup of an invocation that a supervisord has made before us, by
// its path as /proc/PID/cgroup has it. Its tree need not be ours: that supervisord
// may have been started in another cgroup. It may be gone by now, and be empty so.
func Find(path string) (*Group, error) {
	if !made.MatchString(path) || filepath.Clean(path) != path {
		return nil, fmt.Errorf("cannot find cgroup %q: no supervisord makes a cgroup of that name", path)
	}
	m, err := findMount("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	base := filepath.Dir(filepath.Dir(path))
	top, err := m.dirOf(base)
	if err != nil {
		return nil, err
	}
	return &Group{tree: &Tree{base: base, top: top}, path: path}, nil
}

// made are the paths that Make makes: to kill what is in another cgroup would be
// a mistake, also where the state says so.
var made = regexp.MustCompile(`^/([^\n]+/)?` + prefix + `[0-9a-f]{12}/[A-Za-z0-9][A-Za-z0-9_.-]*` + regexp.QuoteMeta(suffix) + `/[0-9]+$`)

// Path is the cgroup as /proc/PID/cgroup has it.
func (g *Group) Path() string { return g.path }

func (g *Group) dir() string { return g.tree.top + g.path[len(g.tree.base):] }

// Open returns an fd for clone3(2), CLONE_INTO_CGROUP; the caller closes it.
func (g *Group) Open() (fd int, err error) {
	fd, err = unix.Open(g.dir(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot open cgroup %s: %w", g.path, err)
	}
	return fd, nil
}

// Add moves a process into the cgroup.
func (g *Group) Add(pid int) error { return g.write("cgroup.procs", strconv.Itoa(pid)) }

// write reports a cgroup that is gone as fs.ErrNotExist, whenever it went.
func (g *Group) write(name, text string) error {
	f, err := os.OpenFile(filepath.Join(g.dir(), name), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot open %s of cgroup %s: %w", name, g.path, cause(err))
	}
	defer f.Close()
	if _, err := f.WriteString(text); errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("cannot write %s of cgroup %s: %w", name, g.path, fs.ErrNotExist)
	} else if err != nil {
		return fmt.Errorf("cannot write %s of cgroup %s: %w", name, g.path, cause(err))
	}
	return nil
}

// Kill kills every process in the cgroup and below, also those that are just
// being forked. It fails with fs.ErrNotExist before Linux 5.14.
func (g *Group) Kill() error { return g.write("cgroup.kill", "1") }

// Has says whether a process is in the cgroup or below it.
func (g *Group) Has(pid int) bool {
	path, err := Of(pid)
	return err == nil && (path == g.path || strings.HasPrefix(path, g.path+"/"))
}

// PIDs lists the processes in the cgroup and below. A cgroup that is gone has
// none. Processes outside our pid namespace have no number, and are left out.
func (g *Group) PIDs() (pids []int, err error) {
	err = g.walk(func(dir string) error {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil // removed meanwhile; or threaded, and listed above
		}
		for field := range bytes.FieldsSeq(text) {
			if pid, err := strconv.Atoi(string(field)); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of cgroup %s: %w", g.path, cause(err))
	}
	return pids, nil
}

// walk visits every cgroup below and then the cgroup itself.
func (g *Group) walk(visit func(dir string) error) error { return walk(g.dir(), visit) }

func walk(dir string, visit func(string) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(dir, e.Name()), visit); err != nil {
				return err
			}
		}
	}
	return visit(dir)
}

// ID is the number by which the kernel knows the cgroup (cgroup_id in
// ioctl_pidfd(2)), which no other gets while the machine is up; 0 if it is gone.
func (g *Group) ID() uint64 {
	var st unix.Stat_t
	if unix.Stat(g.dir(), &st) != nil {
		return 0
	}
	return st.Ino
}

// Remove removes the cgroup, those below it, and the unit's and the tree's if
// that was their last. It fails with EBUSY while a process is in it.
func (g *Group) Remove() error {
	err := g.walk(func(dir string) error {
		if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot remove cgroup %s: %w", g.path, err)
	}
	unix.Rmdir(filepath.Dir(g.dir())) // ENOTEMPTY: the unit has others
	unix.Rmdir(g.tree.top)            // as well; it is made again where it is needed
	return nil
}

// Freeze stops all processes in the cgroup and below from running, or lets them
// run again. It fails with fs.ErrNotExist before Linux 5.2.
func (g *Group) Freeze(on bool) error {
	if on {
		return g.write("cgroup.freeze", "1")
	}
	return g.write("cgroup.freeze", "0")
}
