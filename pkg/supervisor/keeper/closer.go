package keeper

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A closer closes files that others have made. close(2) of the last copy may wait for
// them: for a process that hangs in write(2) to the same pipe, or for the reader of a
// socket that lingers (SO_LINGER in socket(7)). So that is not for the loop. When it has
// begun the descriptor is out of our table, and no template is forked with it.
type closer struct {
	turn  chan struct{} // has room for those that are in close(2), of which each holds a thread
	event int           // an eventfd: something was closed

	mu     sync.Mutex
	closed []func() // what the loop does then
}

// maxClosing is far from the number of threads at which Go gives up.
const maxClosing = 256

// newCloser returns one whose closings end in the loop.
func newCloser(l *loop) (c *closer, err error) {
	c = &closer{turn: make(chan struct{}, maxClosing)}
	if c.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	return c, l.watch(c.event, unix.EPOLLIN, c.finish)
}

// close closes descriptors that the loop has forgotten, one after the other. then is
// called in the loop when they are closed.
func (c *closer) close(fds []int, then func()) {
	if len(fds) == 0 {
		then()
		return
	}
	go func() {
		c.turn <- struct{}{}
		closeAll(fds)
		<-c.turn
		c.mu.Lock()
		c.closed = append(c.closed, then)
		c.mu.Unlock()
		raise(c.event)
	}()
}

// finish does what waits for what is closed.
func (c *closer) finish() {
	lower(c.event)
	c.mu.Lock()
	closed := c.closed
	c.closed = nil
	c.mu.Unlock()
	for _, then := range closed {
		then()
	}
}

// closeNow is closer.close for tests, which may wait.
func closeNow(fds []int, then func()) {
	closeAll(fds)
	then()
}

// raise makes an eventfd readable, and lower makes it wait for the next raise.
func raise(event int) {
	one := [8]byte{1} // in the byte order of any machine it is not 0
	unix.Write(event, one[:])
}

func lower(event int) {
	var count [8]byte
	unix.Read(event, count[:])
}
