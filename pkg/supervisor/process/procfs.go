package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A stat is what /proc/PID/stat says of a process. Reading it waits for
// nothing that the process could hold up.
type stat struct {
	pid, parent, group, session int
	start                       uint64
	threads                     int
	state                       byte
	comm                        string
}

// alive says whether any of its threads is. The state is that of the first one, which
// may end before the others.
func (s stat) alive() bool {
	return s.state != 'Z' && s.state != 'X' && s.state != 0 || s.state == 'Z' && s.threads > 1
}

func readStat(pid int) (stat, error) {
	text, err := slurp("/proc/"+strconv.Itoa(pid)+"/stat", 1024)
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// slurp reads a file of /proc that has about size bytes. These are never waited
// for, and os.ReadFile would ask the poller for each of them whether they are.
func slurp(path string, size int) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	text := make([]byte, 0, size)
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, text[len(text):cap(text)]) })
		if err != nil || n == 0 {
			return text, err
		}
		if text = text[:len(text)+n]; len(text) == cap(text) {
			text = slices.Grow(text, size)
		}
	}
}

// parseStat reads the fields of proc_pid_stat(5). The name is in parentheses and
// may itself hold any, so the last one ends it.
func parseStat(text []byte) (s stat, err error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return stat{}, errors.New("cannot parse /proc/PID/stat: no name in it")
	}
	f := strings.Fields(string(text[end+1:]))
	if len(f) < 20 {
		return stat{}, errors.New("cannot parse /proc/PID/stat: too few fields")
	}
	s.comm, s.state = string(text[open+1:end]), f[0][0]
	numbers := []string{string(bytes.TrimSpace(text[:open])), f[1], f[2], f[3], f[17]}
	for i, to := range []*int{&s.pid, &s.parent, &s.group, &s.session, &s.threads} {
		if *to, err = strconv.Atoi(numbers[i]); err != nil {
			return stat{}, fmt.Errorf("cannot parse /proc/PID/stat: %w", err)
		}
	}
	s.start, err = strconv.ParseUint(f[19], 10, 64)
	return s, err
}

// numbers lists the names in a directory that are numbers.
func numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var ns []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			ns = append(ns, n)
		}
	}
	return ns, nil
}

// children lists our own children: those that we started and those that we got. It
// may miss some while others come and go.
func children() (pids []int, err error) { return childrenOf(os.Getpid()) }

func childrenOf(parent int) (pids []int, err error) {
	l, err := listChildren(parent)
	if err == errNoLists {
		return childrenByWalk(parent)
	}
	return l.children, err
}

// errNoLists is of a kernel without CONFIG_PROC_CHILDREN.
var errNoLists = errors.New("cannot list children: the kernel has no /proc/PID/task/TID/children")

// listChildren reads proc_tid_children(5) of each thread of a process.
func listChildren(parent int) (l lists, err error) {
	dir := "/proc/" + strconv.Itoa(parent) + "/task"
	if l.threads, err = numbers(dir); err != nil {
		return lists{}, err
	}
	for _, thread := range l.threads {
		text, err := slurp(dir+"/"+strconv.Itoa(thread)+"/children", 512)
		switch {
		case err == unix.ENOENT && thread == parent:
			return lists{}, errNoLists
		case err == unix.ENOENT, err == unix.ESRCH: // it has ended
			continue
		case err != nil:
			return lists{}, err
		}
		for field := range bytes.FieldsSeq(text) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				l.children = append(l.children, pid)
			}
		}
	}
	return l, nil
}

func childrenByWalk(parent int) (pids []int, err error) {
	all, err := snapshot()
	for pid, s := range all {
		if s.parent == parent {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// snapshot reads the stat of every process. It is no instant: a process that is
// forked while it is taken may be missing.
func snapshot() (map[int]stat, error) {
	pids, err := numbers("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	all := make(map[int]stat, len(pids))
	for _, pid := range pids {
		if s, err := readStat(pid); err == nil {
			all[pid] = s
		}
	}
	return all, nil
}
