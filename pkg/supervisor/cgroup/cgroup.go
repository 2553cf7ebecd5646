// Package cgroup keeps each invocation in a cgroup of its own (cgroups(7),
// version 2), so that whatever a service forks can be found, signalled and
// waited for, however it detaches itself.
//
// The tree is OWN/supervisord-HASH/UNIT.service/INVOCATION, where OWN is the
// cgroup that supervisord was started in and HASH stands for its runtime
// directory: two supervisords never share one. No controller is needed, so a
// hybrid mount, where version 1 holds them all, serves as well.
//
// All writing goes to files below a directory that is ours. A cgroup cannot be
// renamed, so its path is as good as a handle.
package cgroup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Tree is where a supervisord's cgroups are.
type Tree struct {
	base string // as /proc/PID/cgroup has it
	top  string // its directory
}

// A mount is where cgroup2 is mounted, and which cgroup that shows.
type mount struct{ dir, root string }

// dirOf is the directory of a cgroup that the mount shows.
func (m mount) dirOf(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(m.root, "/"))
	if !ok || rest != "" && rest[0] != '/' {
		return "", fmt.Errorf("the mounted cgroup2 does not show cgroup %s", path)
	}
	return filepath.Join(m.dir, rest), nil
}

// Open finds or makes the cgroup for the supervisord of runtimeDirectory. An
// error says why cgroups cannot be had here.
func Open(runtimeDirectory string) (*Tree, error) {
	m, err := findMount("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := Of(os.Getpid())
	if err != nil {
		return nil, err
	}
	dir, err := m.dirOf(own)
	if err != nil {
		return nil, err
	}
	if dir == m.dir && exists("/run/systemd/system") {
		return nil, errors.New("the root cgroup is systemd's")
	}
	sum := sha256.Sum256([]byte(identity(runtimeDirectory)))
	name := prefix + hex.EncodeToString(sum[:hashed])
	t := &Tree{base: filepath.Join(own, name), top: filepath.Join(dir, name)}
	return t, t.try()
}

// What a tree and the cgroups of units are called by.
const (
	prefix = "supervisord-"
	hashed = 6 // bytes of the hash
	suffix = ".service"
)

// identity is a directory and its name: in another mount namespace the name may be
// another directory's.
func identity(dir string) string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return dir
	}
	return fmt.Sprintf("%d:%d:%s", st.Dev, st.Ino, dir)
}

// try makes the tree and a cgroup in it, and looks whether it works.
func (t *Tree) try() error {
	g, err := t.Make("try", "0")
	if err != nil {
		t.Close()
		return err
	}
	defer t.Close()
	defer g.Remove()
	// A process gets there from ours: both ends, and what is above them, must be ours.
	for _, dir := range []string{g.dir(), filepath.Dir(t.top)} {
		if unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) != nil {
			return fmt.Errorf("cannot move processes below %s: permission denied", dir)
		}
	}
	_, err = g.Populated()
	return err
}

// Path is the tree's cgroup, as /proc/PID/cgroup has it.
func (t *Tree) Path() string { return t.base }

// Dir is the tree's directory. It is there while it has a cgroup in it.
func (t *Tree) Dir() string { return t.top }

// Close removes what is empty of the tree, also what an earlier supervisord has
// left; what lives in it goes on.
func (t *Tree) Close() error {
	return walk(t.top, func(dir string) error {
		unix.Rmdir(dir) // EBUSY: it is not empty
		return nil
	})
}

// Has says whether a process is in a cgroup of the tree.
func (t *Tree) Has(pid int) bool {
	path, err := Of(pid)
	return err == nil && strings.HasPrefix(path, t.base+"/")
}

// Make makes the cgroup of an invocation of a unit. Both are names without a
// slash; the suffix keeps them apart from the files of a cgroup.
func (t *Tree) Make(unitName, invocation string) (*Group, error) {
	g := &Group{tree: t, path: filepath.Join(t.base, unitName+suffix, invocation)}
	err := g.mkdir()
	for tries := 100; errors.Is(err, fs.ErrNotExist) && tries > 0; tries-- {
		err = g.mkdir() // the last other invocation has just taken the directories along
	}
	if errors.Is(err, fs.ErrExist) { // left by a supervisord whose state is lost
		err = g.mustBeEmpty()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make cgroup %s: %w", g.path, cause(err))
	}
	return g, nil
}

func (g *Group) mkdir() error {
	for _, dir := range []string{g.tree.top, filepath.Dir(g.dir())} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.Mkdir(g.dir(), 0o755)
}

func (g *Group) mustBeEmpty() error {
	populated, err := g.Populated()
	if err == nil && populated {
		err = errors.New("it has processes already")
	}
	return err
}

func cause(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Of is the cgroup of a process, as /proc/PID/cgroup has it: relative to the
// root of our cgroup namespace.
func Of(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", fmt.Errorf("cannot read the cgroup of process %d: %w", pid, cause(err))
	}
	for line := range bytes.Lines(text) {
		if path, ok := bytes.CutPrefix(line, []byte("0::")); ok {
			return strings.TrimSuffix(string(path), "\n"), nil
		}
	}
	return "", errors.New("the kernel has no cgroup version 2")
}

// findMount finds cgroup2 in a mountinfo file (proc_pid_mountinfo(5)).
func findMount(file string) (mount, error) {
	f, err := os.Open(file)
	if err != nil {
		return mount{}, fmt.Errorf("cannot look for cgroup2: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return mount{dir: unescape(fields[4]), root: unescape(fields[3])}, nil
		}
	}
	return mount{}, errors.New("cgroup2 is not mounted")
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
