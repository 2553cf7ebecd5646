package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A slowFS is a file system in memory (fuse(4)) with one directory, in which sockets
// can be made, and which can be made to hang: then it answers nothing.
type slowFS struct {
	*testing.T
	dir   string
	dev   *os.File
	ended chan struct{} // closed when it answers nothing any more
	deaf  atomic.Bool
	nodes map[string]*node
	last  uint64
}

type node struct {
	id   uint64
	mode uint32
}

const rootNode = 1

// mountSlow mounts one at dir.
func mountSlow(t *testing.T, dir string) *slowFS {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("needs /dev/fuse: ", err)
	}
	os.Mkdir(dir, 0o755)
	if err := unix.Mount("fuse", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)); err != nil {
		unix.Close(fd)
		t.Skip("needs to mount: ", err)
	}
	// It can be polled from now on.
	f := &slowFS{T: t, dir: dir, dev: os.NewFile(uintptr(fd), "/dev/fuse"), ended: make(chan struct{}), nodes: map[string]*node{}, last: rootNode}
	t.Cleanup(f.abort)
	go f.serve()
	return f
}

// hang has it take no request from now on. Who waits for one can be killed, unlike
// who waits for the answer to one that was taken.
func (f *slowFS) hang() {
	f.dev.SetReadDeadline(time.Unix(1, 0))
	<-f.ended
}

// swallow has it take requests and answer none: nobody who waits for one can be killed.
func (f *slowFS) swallow() {
	if _, err := os.Stat(f.dir); err != nil { // so that it has begun
		f.Fatal(err)
	}
	f.deaf.Store(true)
}

// abort ends it: whoever waits for it gets an error. Its device is all that holds it.
func (f *slowFS) abort() {
	unix.Unmount(f.dir, unix.MNT_DETACH)
	f.dev.Close()
}

func (f *slowFS) serve() {
	defer close(f.ended)
	buf := make([]byte, 64<<10)
	for {
		n, err := f.dev.Read(buf)
		if err != nil {
			return
		}
		if f.deaf.Load() {
			continue
		}
		op, unique, id := binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:]), binary.NativeEndian.Uint64(buf[16:])
		if answer, errno, ok := f.answer(op, id, buf[40:n]); ok {
			f.dev.Write(message(unique, errno, answer))
		}
	}
}

func message(unique uint64, errno syscall.Errno, answer []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(answer)))
	b = binary.NativeEndian.AppendUint32(b, uint32(-int32(errno)))
	return append(binary.NativeEndian.AppendUint64(b, unique), answer...)
}

// Requests, as <linux/fuse.h> numbers them.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseSetattr = 4
	fuseMknod   = 8
	fuseUnlink  = 10
	fuseInit    = 26
	fuseIntr    = 36
	fuseForgets = 42
)

func (f *slowFS) answer(op uint32, id uint64, body []byte) (answer []byte, errno syscall.Errno, ok bool) {
	name := func(from int) string { s, _, _ := strings.Cut(string(body[from:]), "\x00"); return s }
	switch op {
	case fuseForget, fuseForgets, fuseIntr:
		return nil, 0, false
	case fuseInit:
		return append(binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 7), 23), make([]byte, 56)...), 0, true
	case fuseLookup:
		if n := f.nodes[name(0)]; n != nil {
			return entry(n), 0, true
		}
		return nil, syscall.ENOENT, true
	case fuseMknod:
		f.last++
		n := &node{f.last, binary.NativeEndian.Uint32(body)}
		f.nodes[name(16)] = n
		return entry(n), 0, true
	case fuseGetattr, fuseSetattr:
		return f.attributes(op, id, body), 0, true
	case fuseUnlink:
		delete(f.nodes, name(0))
		return nil, 0, true
	}
	return nil, syscall.ENOSYS, true
}

func (f *slowFS) attributes(op uint32, id uint64, body []byte) []byte {
	for _, n := range f.nodes {
		if n.id != id {
			continue
		}
		if op == fuseSetattr && binary.NativeEndian.Uint32(body)&1 != 0 {
			n.mode = n.mode&unix.S_IFMT | binary.NativeEndian.Uint32(body[68:])&0o7777
		}
		return append(make([]byte, 16), attr(n)...)
	}
	return append(make([]byte, 16), attr(&node{id, unix.S_IFDIR | 0o750})...)
}

// entry says what a name stands for. The kernel is to ask again each time.
func entry(n *node) []byte {
	b := binary.NativeEndian.AppendUint64(nil, n.id)
	return append(append(b, make([]byte, 32)...), attr(n)...)
}

func attr(n *node) []byte {
	b := make([]byte, 88)
	binary.NativeEndian.PutUint64(b, n.id)
	binary.NativeEndian.PutUint32(b[60:], n.mode)
	binary.NativeEndian.PutUint32(b[64:], 1) // links
	return b
}

// A file system that hangs under one socket holds up only the service that has it:
// the others are seen, restarted, stopped and started, and supervisord ends.
func TestAFileSystemThatHangs(t *testing.T) {
	t.Parallel()
	r := at(t, "")
	fs := mountSlow(t, r.path("fs"))
	others := sleeper + "[service.more]\nexec_start = [\"/bin/sleep\", \"1000\"]\nstart = \"manual\"\n[service.more.reload]\nbake = \"1ms\"\n"
	stuck := `
[socket.idle]
listen_stream = ["$DIR/fs/idle.sock"]
[service.idle]
exec_start = ["/bin/sleep", "1000"]
sockets = ["idle"]
start = "manual"
[socket.stuck]
listen_stream = ["$DIR/fs/stuck.sock"]
[service.stuck]
exec_start = ["/bin/sleep", "1000"]
sockets = ["stuck"]
timeout_stop_sec = "1s"
[service.stuck.reload]
bake = "1ms"
`
	r.write(others + stuck)
	r.start()
	r.ctl(0, "start", "api", "stuck")
	fs.hang()
	r.take(others)
	r.ctl(0, "stop", "--no-block", "stuck")
	for range 3 {
		pid := r.pid("api")
		r.kill(pid, syscall.SIGKILL)
		r.line(fmt.Sprintf("pid %d was killed by SIGKILL", pid))
		r.line(`"unit":"api"`, "running (was ")
		r.ctl(0, "start", "more")
		r.ctl(0, "stop", "more")
		r.has(r.ctl(0, "status"), "api")
		r.ctl(0, "sockets")
	}
	r.stop()
}

// A program on a file system that hangs fails its own start, in its time, and holds up
// nobody else.
func TestAProgramOnAFileSystemThatHangs(t *testing.T) {
	t.Parallel()
	r := at(t, "")
	fs := mountSlow(t, r.path("fs"))
	r.write(sleeper + `
[service.stuck]
exec_start = ["$DIR/fs/program"]
start = "manual"
restart = "no"
timeout_start_sec = "100ms"
timeout_stop_sec = "1h"
`)
	r.start()
	r.ctl(0, "start", "api")
	fs.hang()
	r.ctl(0, "start", "--no-block", "stuck")
	r.line(`"unit":"stuck"`, "could not be set up within timeout_start_sec")
	r.line(`"unit":"stuck"`, "failed (was stop-sigterm)")
	r.ctl(0, "restart", "api")
	r.stop()
}

// A log directory on a file system that hangs costs log lines, and holds up nobody.
func TestALogDirectoryOnAFileSystemThatHangs(t *testing.T) {
	t.Parallel()
	r := at(t, "")
	fs := mountSlow(t, r.path("log"))
	r.write("[service.talker]\nexec_start = [\"/bin/sh\", \"-c\", \"echo hello; exec sleep 1000\"]\nstart = \"manual\"\n" + sleeper)
	r.start()
	fs.hang()
	r.ctl(0, "start", "talker", "api")
	r.kill(r.pid("api"), syscall.SIGKILL)
	r.line(`"unit":"api"`, "running (was ")
	r.ctl(0, "stop", "talker")
	r.ctl(0, "restart", "api")
	r.has(r.ctl(0, "status"), "api")
	fs.abort() // or its end would wait for each log
	r.stop()
}

// A signal wakes the first thread of a process. No disk may hold that up, so nothing but
// main runs there: its goroutine, which a dump shows, is locked to it.
func TestTheFirstThreadIsMains(t *testing.T) {
	t.Parallel()
	r := at(t, "")
	r.write(sleeper)
	r.start()
	r.signal(syscall.SIGQUIT)
	if first := r.line("goroutine 1 "); !strings.Contains(first, "locked to thread") {
		t.Error(first)
	}
	r.end(2)
}

// A file system that a service's user serves may keep for ever who looks into it. Restarts
// do not leave it more and more processes.
func TestStartsThatCannotBeKilled(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	r := at(t, "")
	if err := os.Mkdir(r.path("theirs"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chown(r.path("theirs"), 65534, 65534)
	os.Chmod(r.dir, 0o755)
	fs := mountSlow(t, r.path("theirs/fs"))
	r.write(sleeper + `
[service.stuck]
exec_start = ["/bin/sleep", "1000"]
user = "65534"
group = "65534"
environment_file = ["$DIR/theirs/fs/env"]
start = "manual"
restart = "always"
restart_sec = "1ms"
restart_max_delay_sec = "1ms"
timeout_start_sec = "50ms"
timeout_stop_sec = "50ms"
`)
	r.start()
	r.ctl(0, "start", "api")
	fs.swallow()
	r.ctl(0, "start", "--no-block", "stuck")
	for range 20 {
		r.line(`"unit":"stuck"`, "restarts in ")
	}
	if n := len(r.forks()); n > 1+4+1 {
		t.Errorf("%d processes have executed nothing", n)
	}
	r.ctl(0, "restart", "api")
	r.stop()
}
