package keeper

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// read is the life of the goroutine that reads. It never waits for anybody but the
// keeper: an answer may be behind what it has.
func (c *Client) read() {
	var err error
	step := func(fd uintptr) bool {
		err = c.receive(int(fd))
		return err != unix.EAGAIN
	}
	for err == nil {
		if e := c.conn.Read(step); e != nil {
			break
		}
	}
	if err == nil || err == unix.EAGAIN { // the keeper has ended: what it said last
		c.conn.Control(func(fd uintptr) {
			for step(fd) && err == nil {
			}
		})
	}
	if err == unix.EAGAIN || err == unix.EPIPE || err == nil {
		err = ErrLost
	}
	c.lose(err)
}

func (c *Client) receive(fd int) error {
	m, err := c.in.receive(fd)
	if err == unix.EMFILE { // and nobody can have its files
		return c.hear(&m, unix.EMFILE)
	}
	if err != nil {
		return err
	}
	return c.hear(&m, nil)
}

// refuse closes descriptors that came for nobody, which may have to wait.
func refuse(fds ...int) {
	if len(fds) > 0 {
		go closeAll(fds)
	}
}

// lose ends all calls.
func (c *Client) lose(err error) {
	c.mu.Lock()
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	for _, w := range calls {
		w.err = ErrLost
		close(w.done)
	}
	close(c.lost)
	if c.handler.Lost != nil {
		c.handler.Lost(err)
	}
}

// hear does what the keeper says. The files of the message are its own from then on.
func (c *Client) hear(m *message, broken error) error {
	if m.verb != sayEntry && len(m.files) > 0 {
		refuse(m.files...)
		return errBroken
	}
	switch m.verb {
	case sayDone:
		return c.hearDone(m)
	case sayEntry:
		return c.hearEntry(m, broken)
	case sayEnded:
		return c.hearEnded(m)
	case saySignal:
		return c.hearSignal(m)
	case sayPing:
		c.hearPing(m.number)
		return nil
	case sayGo:
		return c.hearGo(m)
	case sayLeave:
		if c.handler.Leave != nil {
			c.handler.Leave()
		}
		return nil
	}
	return errBroken
}

func (c *Client) hearDone(m *message) error {
	r := m.read()
	errno := syscall.Errno(r.unsigned(16))
	c.mu.Lock()
	w := c.calls[m.number]
	delete(c.calls, m.number)
	if w != nil && errno == 0 { // here, as another process may have the key by the time that the caller goes on
		delete(c.ends, w.drops)
	}
	c.mu.Unlock()
	if w == nil || r.broken {
		return errBroken
	}
	if errno != 0 && w.err == nil {
		w.err = errno
	}
	close(w.done)
	return nil
}

func (c *Client) hearEntry(m *message, broken error) error {
	e, err := readEntry(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.calls[m.number]
	if w == nil || err != nil {
		refuse(m.files...)
		return errBroken
	}
	if broken != nil {
		w.err = broken
	}
	if e.State != Kept {
		e.End = c.expect(&e)
	}
	w.entries = append(w.entries, e)
	return nil
}

func readEntry(m *message) (Entry, error) {
	r := m.read()
	e := Entry{
		Key: r.text(), Meta: r.text(), FDs: m.files, State: State(r.unsigned(8)), PID: r.number(32), Foreign: r.unsigned(1) != 0,
		Base: uintptr(r.unsigned(64)), First: r.number(32), NoFile: r.unsigned(64), Status: syscall.WaitStatus(r.unsigned(32)),
	}
	if e.State >= spawning {
		r.broken = true
	}
	return e, r.err()
}

// expect returns where the end of a process will be told. It has room for all that may
// come.
func (c *Client) expect(e *Entry) <-chan syscall.WaitStatus {
	const most = 2
	ch := make(chan syscall.WaitStatus, most)
	all := c.ends[e.Key]
	if all == nil || e.State == Running && all.told { // another process: keys may be used again
		all = &ends{}
		c.ends[e.Key] = all
	}
	if e.State == Ended {
		all.told, all.status = true, e.Status
		ch <- e.Status
	}
	all.waiting = append(all.waiting, ch)
	return ch
}

func (c *Client) hearEnded(m *message) error {
	r := m.read()
	key, status := r.text(), syscall.WaitStatus(r.unsigned(32))
	if r.broken {
		return errBroken
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.ends[key]
	if all == nil || all.told && all.status == status {
		return nil
	}
	all.told, all.status = true, status
	for _, ch := range all.waiting {
		select {
		case ch <- status:
		default:
		}
	}
	return nil
}

func (c *Client) hearSignal(m *message) error {
	r := m.read()
	s := Signal{syscall.Signal(r.number(8)), uint32(r.unsigned(32))}
	if r.broken {
		return errBroken
	}
	if c.handler.Signal != nil {
		c.handler.Signal(s)
	}
	return nil
}

func (c *Client) hearPing(number uint32) {
	pong := func() { c.send(&message{verb: askPong, number: number}) }
	if c.handler.Ping != nil {
		c.handler.Ping(pong)
		return
	}
	go pong() // which may wait for room in the line
}

func (c *Client) hearGo(m *message) error {
	r := m.read()
	p := Past{Managers: r.number(32), PID: r.number(32), Status: syscall.WaitStatus(r.unsigned(32)), Why: r.text()}
	if r.broken {
		return errBroken
	}
	select {
	case c.ruling <- p:
		return nil
	default:
		return errBroken // it says so once
	}
}
