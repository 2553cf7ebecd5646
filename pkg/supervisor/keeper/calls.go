package keeper

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Spawn is a child to be had.
type Spawn struct {
	Key, Meta string // of its entry
	Control   string // the key of our end of its control socket
	Cgroup    int    // that it is born into; borrowed; -1: the keeper's
	Files     []File // that it has from Entry.First on, in this order
}

// A File is one that a child gets.
type File struct {
	key   string
	index int
	given bool
	fd    int
}

// Of is a descriptor of the table: the one of that index, from 0 on, of a key.
func Of(key string, index int) File { return File{key: key, index: index} }

// Given is a descriptor of ours, which is borrowed and goes with the message: at most
// MaxFiles do, the cgroup included.
func Given(fd int) File { return File{given: true, fd: fd} }

// A Child is a process that waits for programs (package spawn), until the last copy of
// Control is closed.
type Child struct {
	Entry
	Control int // our copy; non-blocking
}

// Put has descriptors kept, which it borrows: when it returns, the keeper has copies.
// Without any only key and meta are. EEXIST: the key is there; EMFILE: there is no room
// for so many; ENOSPC: all keys and metas together are larger than 64 MiB; EINVAL: a key has
// 1 to 255 bytes; EMSGSIZE: the meta has more than 64 KiB.
func (c *Client) Put(key, meta string, fds ...int) error {
	return c.do(askPut, fds, key, meta)
}

// Drop has the descriptors of a key closed, and its process reaped. It is nil if there is
// nothing of that key, and EBUSY if the process, a child of the keeper's, has not ended.
// When it returns they are closed; but not one whose close is held up for a second (a pipe
// that another process hangs in, a socket that lingers) or that a start still needs.
func (c *Client) Drop(key string) error {
	return c.do(askDrop, nil, key)
}

// List is all that is kept, in the order in which it came. The descriptors are the
// caller's. EMFILE: we may not have that many open.
func (c *Client) List() ([]Entry, error) {
	return c.call(askList, nil)
}

// Spawn has a child forked that waits for programs. EEXIST: one of the keys is there;
// ENOENT: one of the files is not kept. Other errors are those of fork and of cgroups.
func (c *Client) Spawn(s Spawn) (Child, error) {
	fields, fds := s.words()
	if len(fds) > MaxFiles {
		return Child{}, unix.EMSGSIZE
	}
	got, err := c.call(askSpawn, fds, fields...)
	if err != nil {
		return Child{}, err
	}
	if len(got) != 2 || len(got[0].FDs) != 1 || len(got[1].FDs) != 1 {
		closeEntries(got)
		return Child{}, errBroken
	}
	return Child{got[0], got[1].FDs[0]}, nil
}

func (s *Spawn) words() (fields []string, fds []int) {
	cgroup := "0"
	if s.Cgroup >= 0 {
		cgroup = "1"
		fds = append(fds, s.Cgroup)
	}
	fields = append(fields, s.Key, s.Meta, s.Control, cgroup)
	for _, f := range s.Files {
		if f.given {
			fields, fds = append(fields, ""), append(fds, f.fd)
			continue
		}
		fields = append(fields, f.key+"#"+strconv.Itoa(f.index))
	}
	return fields, fds
}

// Adopt has a process watched that is not the keeper's child. pidfd is borrowed. The
// keeper does not look whether it is that of pid.
func (c *Client) Adopt(key, meta string, pid, pidfd int) (Entry, error) {
	got, err := c.call(askAdopt, []int{pidfd}, key, meta, decimal(pid))
	if err != nil {
		return Entry{}, err
	}
	if len(got) != 1 {
		closeEntries(got)
		return Entry{}, errBroken
	}
	return got[0], nil
}

// Tell passes a text on to systemd (sd_notify(3)), with descriptors. It is nil if nobody
// listens, and EAGAIN if too much waits for systemd to read.
func (c *Client) Tell(text string, fds ...int) error {
	return c.do(askTell, fds, text)
}

// Up says that this manager can read all that there is. It returns when the manager is
// the one that rules: before that it may only call List.
func (c *Client) Up() (Past, error) {
	if err := c.do(askUp, nil); err != nil {
		return Past{}, err
	}
	select {
	case p := <-c.ruling:
		c.ruling <- p // for whoever asks again
		return p, nil
	case <-c.lost:
		return Past{}, ErrLost
	}
}

// Serving says that this manager has taken over.
func (c *Client) Serving() error { return c.do(askServing, nil) }

// Heard says that what a signal orders is stored: no other manager is told of it.
func (c *Client) Heard(s Signal) error {
	return c.do(askHeard, nil, decimal(s.Signal), decimal(s.serial))
}

// Exit has the keeper end with a status, from 0 to 255, as soon as this manager has
// ended.
func (c *Client) Exit(status int) error { return c.do(askExit, nil, decimal(status)) }

func (c *Client) do(v verb, files []int, fields ...string) error {
	got, err := c.call(v, files, fields...)
	closeEntries(got)
	return err
}

// call asks, and waits for the answer.
func (c *Client) call(v verb, files []int, fields ...string) ([]Entry, error) {
	if len(files) > MaxFiles {
		return nil, unix.EMSGSIZE
	}
	w := &call{done: make(chan struct{})}
	if v == askDrop {
		w.drops = fields[0]
	}
	m := message{verb: v, files: files, fields: fields}
	if !c.expectAnswer(w, &m) {
		return nil, ErrLost
	}
	if err := c.send(&m); err != nil && c.forget(m.number) {
		return nil, err
	}
	<-w.done
	if w.err != nil {
		closeEntries(w.entries)
		return nil, w.err
	}
	return w.entries, nil
}

// expectAnswer gives a question its number. It is false if nobody will answer.
func (c *Client) expectAnswer(w *call, m *message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		return false
	}
	c.number++
	m.number = c.number
	c.calls[m.number] = w
	return true
}

// forget is false if the question is being answered.
func (c *Client) forget(number uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, waits := c.calls[number]
	delete(c.calls, number)
	return waits
}

// send waits for room in the line.
func (c *Client) send(m *message) (err error) {
	for {
		if e := c.conn.Write(func(fd uintptr) bool {
			err = send(int(fd), m)
			return err != unix.EAGAIN
		}); e != nil {
			return ErrLost
		}
		switch err {
		case unix.ETOOMANYREFS, unix.ENOBUFS, unix.ENOMEM:
			c.pause()
		case unix.EPIPE, unix.ECONNRESET:
			return ErrLost
		default:
			return err
		}
	}
}

// pause waits until the keeper may have taken what is on its way.
func (c *Client) pause() {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-c.lost:
	}
}

func closeEntries(all []Entry) {
	for i := range all {
		all[i].Close()
	}
}
