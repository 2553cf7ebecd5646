package rig

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process takes, from proc(5).
type Usage struct {
	Threads int           `json:"threads"`
	RSS     int64         `json:"rss_kib"`
	Files   int           `json:"fds"`
	CPU     time.Duration `json:"-"` // user and system, since it began
	Wakeups int64         `json:"-"` // voluntary context switches of all its threads, since they began
}

// tick is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux.
const tick = time.Second / 100

// Use reads the usage of a process.
func Use(pid int) (u Usage, err error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return u, err
	}
	u.Threads = int(field(status, "Threads:"))
	u.RSS = field(status, "VmRSS:")
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return u, err
	}
	u.Files = len(fds)
	tasks, _ := filepath.Glob(dir + "/task/*/status")
	for _, task := range tasks {
		if b, err := os.ReadFile(task); err == nil { // threads come and go
			u.Wakeups += field(b, "voluntary_ctxt_switches:")
		}
	}
	u.CPU, err = cpu(dir)
	return u, err
}

// BPF is how much of the kernel's memory the BPF maps and programs take that a process
// has, in KiB. They are no part of its own memory, and are counted once, however many
// descriptors of it they have.
func BPF(pid int) (kib int64, err error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return 0, err
	}
	var memory bpfMemory
	for _, info := range infos {
		if b, err := os.ReadFile(info); err == nil { // descriptors come and go
			memory.add(b)
		}
	}
	return memory.bytes / 1024, nil
}

type bpfMemory struct {
	seen  map[string]bool
	bytes int64
}

// add takes in one descriptor as bpf(2) has it in /proc/PID/fdinfo.
func (m *bpfMemory) add(info []byte) {
	for _, key := range []string{"map_id:", "prog_id:"} {
		id := field(info, key)
		if name := fmt.Sprint(key, id); id > 0 && !m.seen[name] {
			if m.seen == nil {
				m.seen = map[string]bool{}
			}
			m.seen[name] = true
			m.bytes += field(info, "memlock:")
		}
	}
}

// field is the number behind a key that begins a line.
func field(status []byte, key string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			n, _ := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			return n
		}
	}
	return 0
}

func cpu(dir string) (time.Duration, error) {
	fields, err := stat(dir)
	if err != nil {
		return 0, err
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, nil
}

// stat returns the fields of /proc/PID/stat from the third on: the second, the
// command, may hold blanks.
func stat(dir string) ([]string, error) {
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])), nil
}

// Zombies counts the children of a process that it has not waited for.
func Zombies(parent int) (n int) {
	dirs, _ := filepath.Glob("/proc/[1-9]*")
	for _, dir := range dirs {
		fields, err := stat(dir)
		if err == nil && fields[0] == "Z" && fields[1] == strconv.Itoa(parent) {
			n++
		}
	}
	return n
}

// Alive says whether a process has not ended; a zombie has.
func Alive(pid int) bool {
	fields, err := stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil && fields[0] != "Z"
}
