package keeper

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFiles is the soft limit of open files that this program was started with, before
// package os raised it. syscall.Exec puts it back before it tries; this try is of a file
// that cannot be.
func openFiles() uint64 {
	var raised, before unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &raised) != nil {
		return 0
	}
	syscall.Exec("", []string{""}, nil)
	unix.Prlimit(0, unix.RLIMIT_NOFILE, &raised, &before)
	return before.Cur
}

// low is for a process without which nothing would be started again, and whose end
// frees next to nothing.
const low = -900

// lowerScore makes us the last to be killed when memory is short, and returns what there
// was before: the template has that back, so its children have it. An ordinary user may
// not lower it.
func lowerScore() (before int, lowered bool) {
	text, err := os.ReadFile(scoreFile("self"))
	if err != nil {
		return 0, false
	}
	before, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || before <= low {
		return before, false
	}
	return before, setScore("self", low) == nil
}

func setScore(pid string, score int) error {
	return os.WriteFile(scoreFile(pid), []byte(strconv.Itoa(score)), 0)
}

func scoreFile(pid string) string { return "/proc/" + pid + "/oom_score_adj" }
