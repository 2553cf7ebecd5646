package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Sweep kills every process whose program is a file below dir, and says which
// they were. There should be none.
func Sweep(dir string) error {
	var left []string
	for _, pid := range Running(dir) {
		p, err := os.FindProcess(pid) // by a pidfd: it stays this one
		if err == nil && runs(pid, dir) && p.Kill() == nil {
			left = append(left, strconv.Itoa(pid))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("processes were left behind and had to be killed: %s", strings.Join(left, ", "))
	}
	return nil
}

// Running returns the processes whose program is a file below dir.
func Running(dir string) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[1-9]*/exe")
	for _, link := range links {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err == nil && runs(pid, dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func runs(pid int, dir string) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.HasPrefix(exe, dir+string(filepath.Separator))
}
