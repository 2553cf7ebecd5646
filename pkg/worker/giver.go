package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	offers     = 3               // how many takers in a row may take nothing
	answerTime = 3 * time.Second // how long each may take to answer, at most an eighth of the drain time

	// window is how many connections may wait for their answers: descriptors that
	// are under way count against a limit of the user's.
	window = 64
)

var (
	errRefused = errors.New("the next process refused the connection")
	errNobody  = errors.New("no process takes connections")
)

// A giver hands over the connections of a process that leaves.
type giver struct {
	out *net.UnixConn

	mu      sync.Mutex
	session *session
	over    bool          // nobody will take one any more
	changed chan struct{} // closed when session or over changes
}

func newGiver(out *net.UnixConn) *giver { return &giver{out: out, changed: make(chan struct{})} }

// run looks for takers until ctx is done or none answers within patience. wake is
// called when there is a new one.
func (g *giver) run(ctx context.Context, patience time.Duration, wake func()) {
	defer g.set(nil, true)
	for failures := 0; failures < offers && ctx.Err() == nil; failures++ {
		s, err := makeOffer(ctx, g.out, patience)
		if errors.Is(err, io.EOF) {
			continue // it was told to leave itself; there may be another
		}
		if err != nil {
			return
		}
		g.set(s, false)
		wake()
		stop := context.AfterFunc(ctx, s.giveUp)
		<-s.done
		stop()
		if s.took {
			failures = 0
		}
		g.set(nil, false)
	}
}

func (g *giver) set(s *session, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.session, g.over = s, over
	close(g.changed)
	g.changed = make(chan struct{})
}

// current returns the taker, nil if there is none now, and whether there may be.
func (g *giver) current() (s *session, hope bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.session, !g.over
}

// await returns a taker other than tried, or errNobody.
func (g *giver) await(tried *session) (*session, error) {
	for {
		g.mu.Lock()
		s, over, changed := g.session, g.over, g.changed
		g.mu.Unlock()
		if over {
			return nil, errNobody
		}
		if s != nil && s != tried {
			return s, nil
		}
		<-changed
	}
}

// A session is a giver's conversation with one taker.
type session struct {
	c        *net.UnixConn
	patience time.Duration
	slot     chan struct{} // has room for window
	done     chan struct{} // closed when the conversation is over
	took     bool          // whether the taker took one; to be read when it is over

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan error // nil: the conversation is over
}

// makeOffer waits for a taker.
func makeOffer(ctx context.Context, out *net.UnixConn, patience time.Duration) (*session, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot offer connections: %w", err)
	}
	c, err := unixConn(fds[0])
	if err != nil {
		unix.Close(fds[1])
		return nil, fmt.Errorf("cannot offer connections: %w", err)
	}
	err = transmit(out, message{kind: offer}, patience, fds[1])
	unix.Close(fds[1])
	if err == nil {
		err = awaitHello(ctx, c, patience)
	}
	if err != nil {
		c.Close() // whoever finds the offer later finds it closed
		return nil, fmt.Errorf("cannot offer connections: %w", err)
	}
	s := &session{
		c:        c,
		patience: patience,
		slot:     make(chan struct{}, window),
		done:     make(chan struct{}),
		waiting:  make(map[uint64]chan error),
	}
	go s.hear()
	return s, nil
}

func awaitHello(ctx context.Context, c *net.UnixConn, patience time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	p, err := receive(c, make([]byte, headerSize+1))
	if !stop() {
		return errNobody
	}
	if err != nil {
		return err
	}
	closeAll(p.fds)
	if p.err != nil || p.version != version || p.kind != hello {
		return errForeign
	}
	return c.SetReadDeadline(time.Time{})
}

// give sends a connection and returns nil if it is the taker's now. Otherwise it
// is still the caller's.
func (s *session) give(k kind, name string, state []byte, c syscall.Conn) error {
	select {
	case s.slot <- struct{}{}:
		defer func() { <-s.slot }()
	case <-s.done:
		return errNobody
	}
	id, answer := s.expect()
	if answer == nil {
		return errNobody
	}
	err := withFD(c, func(fd int) error {
		return transmit(s.c, message{kind: k, id: id, name: name, state: state}, s.patience, fd)
	})
	if err != nil {
		s.giveUp() // whatever is wrong, it is wrong for the next one too
		return <-answer
	}
	late := time.AfterFunc(s.patience, s.giveUp)
	defer late.Stop()
	return <-answer
}

// expect returns the number of a new connection and the channel that tells what
// became of it, nil if the conversation is over.
func (s *session) expect() (uint64, <-chan error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		return 0, nil
	}
	s.last++
	answer := make(chan error, 1)
	s.waiting[s.last] = answer
	return s.last, answer
}

// giveUp ends the conversation. Answers that are under way count, later ones
// fail at the taker's.
func (s *session) giveUp() { s.c.CloseRead() }

// hear distributes the answers until there are no more.
func (s *session) hear() {
	buffer := make([]byte, headerSize+1)
	for {
		p, err := receive(s.c, buffer)
		if err != nil {
			break
		}
		closeAll(p.fds)
		switch {
		case p.err != nil || p.version != version:
			s.giveUp()
		case p.kind == taken:
			s.took = true
			s.answer(p.id, nil)
		case p.kind == refused:
			s.answer(p.id, errRefused)
		}
	}
	s.mu.Lock()
	for _, answer := range s.waiting {
		answer <- errNobody
	}
	s.waiting = nil
	s.mu.Unlock()
	close(s.done)
	s.c.Close()
}

func (s *session) answer(id uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer, ok := s.waiting[id]; ok {
		delete(s.waiting, id)
		answer <- err
	}
}
