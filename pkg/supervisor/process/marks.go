package process

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"time"
)

// marks are what a process may have from the invocation that it was forked in.
// They are hints: a process can carry another's. So they count only for an orphan
// that has come to us, and only if it has the invocation's user: then whoever
// forged them could kill the invocation anyway.
type marks struct {
	uid        uint32
	invocation string // INVOCATION_ID=…, as in its environment; empty: none
	pipe       string // pipe:[…], where its output goes; empty: none
}

func newMarks(uid uint32, env []string, output int) (m marks) {
	m.uid = uid
	for _, pair := range env {
		if strings.HasPrefix(pair, "INVOCATION_ID=") && len(pair) > len("INVOCATION_ID=") {
			m.invocation = pair
		}
	}
	if link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(output)); err == nil && strings.HasPrefix(link, "pipe:[") {
		m.pipe = link
	}
	return m
}

// on says whether a process carries the marks. A program that runs as root may
// have become another user by itself; then only the pipe counts, which nobody has
// who did not get it from the invocation.
func (m marks) on(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	uid, ok := realUID(dir)
	if !ok || uid != m.uid {
		return ok && m.uid == 0 && m.onPipe(dir)
	}
	return m.onPipe(dir) || m.inEnvironment(dir)
}

// someFiles is how many of a process's descriptors are looked at: it may have a
// million.
const someFiles = 256

// onPipe says whether the process holds the pipe. The links are read and never
// followed: a descriptor may be anything.
func (m marks) onPipe(dir string) bool {
	if m.pipe == "" {
		return false
	}
	f, err := os.Open(dir + "/fd")
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(someFiles)
	for _, fd := range names {
		if link, err := os.Readlink(dir + "/fd/" + fd); err == nil && link == m.pipe {
			return true
		}
	}
	return false
}

// environWait is how long a process may hold up the reading of its environment: that
// waits for its page faults, which a file system of its own may never answer.
const environWait = time.Second

// environs counts those that still do, by user: from some on his are not read at all.
var environs hung

var readEnviron = func(dir string) []byte {
	b, _ := os.ReadFile(dir + "/environ")
	return b
}

func (m marks) inEnvironment(dir string) bool {
	if m.invocation == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), environWait)
	defer cancel()
	b, err := apart(ctx, &environs, decimal(int(m.uid)), func() []byte { return readEnviron(dir) }, func([]byte) {})
	if err != nil {
		return false
	}
	for pair := range bytes.SplitSeq(b, []byte{0}) {
		if string(pair) == m.invocation {
			return true
		}
	}
	return false
}

func realUID(dir string) (uint32, bool) {
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			uid, err := strconv.ParseUint(strings.Fields(ids)[0], 10, 32)
			return uint32(uid), err == nil
		}
	}
	return 0, false
}
