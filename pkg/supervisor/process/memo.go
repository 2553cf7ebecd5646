package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// A memo is what a Parent keeps of a child for [Launcher.Resume], as JSON: what holds its
// tree together, and where it has its files. It holds no secrets.
type memo struct {
	Edition    int // of the programs, see edition
	UID        uint32
	Cgroup     string `json:",omitempty"` // empty: the tree is a session's
	Moves      bool   `json:",omitempty"` // into the cgroup, before it has a program
	Invocation string `json:",omitempty"` // see marks
	Pipe       string `json:",omitempty"`

	Files  int    // how many it was forked with
	Room   bool   `json:",omitempty"`
	Pinned *trait `json:",omitempty"`
}

// A trait tells a file from others, and from what it is after a change.
type trait struct {
	Path         []byte
	Dev, Ino     uint64
	Size         int64
	Mtime, Ctime [2]int64
}

func (e *Executable) trait() *trait {
	if e == nil {
		return nil
	}
	w := &e.was
	return &trait{
		Path: []byte(e.path), Dev: w.Dev, Ino: w.Ino, Size: w.Size,
		Mtime: [2]int64{int64(w.Mtim.Sec), int64(w.Mtim.Nsec)}, Ctime: [2]int64{int64(w.Ctim.Sec), int64(w.Ctim.Nsec)},
	}
}

// executable is the file as it was, by a file that is open; it takes fd over. Another file is an
// error.
func (t *trait) executable(fd int) (*Executable, error) {
	e := &Executable{path: string(t.Path), fd: fd}
	err := unix.Fstat(fd, &e.was)
	if err == nil && (e.was.Dev != t.Dev || e.was.Ino != t.Ino) {
		err = unix.ESTALE
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	e.was.Size = t.Size
	e.was.Mtim, e.was.Ctim = unix.Timespec{Sec: t.Mtime[0], Nsec: t.Mtime[1]}, unix.Timespec{Sec: t.Ctime[0], Nsec: t.Ctime[1]}
	return e, nil
}

// running is the file that a process executes, if it is that one still.
func (t *trait) running(pid int) *Executable {
	fd, err := retry(func() (int, error) { return unix.Open("/proc/"+decimal(pid)+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil
	}
	e, _ := t.executable(fd)
	return e
}

// note fills in what the Parent is to keep. The first of b.Start is b's own.
func (b *birth) note(moves bool) error {
	m := memo{Edition: edition, UID: b.uid, Cgroup: b.tree.String(), Moves: moves, Files: len(b.Files), Room: b.ready.room >= 0, Pinned: b.ready.file.trait()}
	if t, ok := b.tree.(*sessionTree); ok {
		m.Invocation, m.Pipe = t.marks.invocation, t.marks.pipe
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b.Meta = string(text)
	order, err := spawn.Sealed(b.ready.order.encode())
	if err != nil {
		return err
	}
	b.Start = append([]int{order}, b.lent...)
	return nil
}

// lent are the files of a start that its process has as well.
func (r *ready) lent() (files []int) {
	if r.room >= 0 {
		files = append(files, int(r.room))
	}
	if r.file != nil {
		files = append(files, r.file.fd)
	}
	return files
}

// ready is what the start was begun with, by the files of its Birth's Start, which it takes
// over.
func (m *memo) ready(start []int) (r ready, err error) {
	r.room = -1
	order := start[0]
	start = start[1:]
	if m.Room && len(start) > 0 {
		r.room, start = room(start[0]), start[1:]
	}
	if m.Pinned != nil && len(start) > 0 {
		r.file, err = m.Pinned.executable(start[0])
		start = start[1:]
	}
	closeAll(start)
	text, e := readAll(order)
	if err = errors.Join(err, e); err == nil {
		r.order, err = decodeOrder(text)
	}
	switch {
	case err != nil:
	case m.Room && r.room < 0, m.Pinned != nil && r.file == nil:
		err = errors.New("a file is missing")
	}
	if err != nil {
		r.close()
		return ready{room: -1}, err
	}
	return r, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// readAll reads a file of [spawn.Sealed] from its beginning, whoever has read it before, and
// closes it.
func readAll(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "order")
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, st.Size())
	_, err = f.ReadAt(text, 0)
	return text, err
}

// A record is an [order] as it is kept. Texts are bytes, since nothing says that they are
// UTF-8.
type record struct {
	Path, Dir       []byte
	Argv, Env       [][]byte
	Files           []recordedFile `json:",omitempty"`
	Protocol, Names [][]byte
	Handover        bool   `json:",omitempty"`
	Watchdog        uint64 `json:",omitempty"`
	SetIDs          bool   `json:",omitempty"`
	UID, GID        uint32
	Groups          []uint32
	User, Group     []byte
	Umask           uint64
	Nice, OOM       *int        `json:",omitempty"`
	Limits          [][3]uint64 `json:",omitempty"`
	Defaults        bool
}

type recordedFile struct {
	Path  []byte
	Pairs [][]byte `json:",omitempty"`
}

func (o *order) encode() []byte {
	r := record{
		Path: []byte(o.path), Dir: []byte(o.dir), Argv: bytesOf(o.argv), Env: bytesOf(o.env),
		Protocol: bytesOf(o.protocol), Names: bytesOf(o.names), Handover: o.handover, Watchdog: o.watchdog,
		SetIDs: o.setIDs, UID: o.uid, GID: o.gid, Groups: o.groups, User: []byte(o.user), Group: []byte(o.group),
		Umask: o.umask, Nice: o.nice, OOM: o.oom, Defaults: o.defaults,
	}
	for _, f := range o.envFiles {
		r.Files = append(r.Files, recordedFile{[]byte(f.path), bytesOf(f.pairs)})
	}
	for _, l := range o.limits {
		r.Limits = append(r.Limits, [3]uint64{uint64(l.resource), l.soft, l.hard})
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // it is numbers and bytes
	}
	return text
}

func decodeOrder(text []byte) (*order, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("cannot read the order: %w", err)
	}
	o := &order{
		path: string(r.Path), dir: string(r.Dir), argv: textsOf(r.Argv), env: textsOf(r.Env),
		protocol: textsOf(r.Protocol), names: textsOf(r.Names), handover: r.Handover, watchdog: r.Watchdog,
		setIDs: r.SetIDs, uid: r.UID, gid: r.GID, groups: r.Groups, user: string(r.User), group: string(r.Group),
		umask: r.Umask, nice: r.Nice, oom: r.OOM, defaults: r.Defaults,
	}
	for _, f := range r.Files {
		o.envFiles = append(o.envFiles, envFile{string(f.Path), textsOf(f.Pairs)})
	}
	for _, l := range r.Limits {
		o.limits = append(o.limits, rlimit{int(l[0]), l[1], l[2]})
	}
	return o, nil
}

func bytesOf(texts []string) (all [][]byte) {
	for _, t := range texts {
		all = append(all, []byte(t))
	}
	return all
}

func textsOf(all [][]byte) (texts []string) {
	for _, b := range all {
		texts = append(texts, string(b))
	}
	return texts
}
