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
	rounds     = 3               // how many times in a row takers may be found that take nothing
	enough     = 10              // offers that find nobody new are made before it is believed
	maxTakers  = 16              // at a time
	answerTime = 3 * time.Second // how long each may take to answer, at most an eighth of the drain time

	// window is how many connections may wait for their answers: descriptors that
	// are under way count against a limit of the user's.
	window = 64
)

var errTwice = errors.New("who has read the offer takes connections already")

// A giver hands over the connections of a process that leaves.
type giver struct {
	out *net.UnixConn

	mu      sync.Mutex
	takers  []*session
	turn    int
	over    bool          // nobody will take one any more
	changed chan struct{} // closed when takers or over change
}

func newGiver(out *net.UnixConn) *giver { return &giver{out: out, changed: make(chan struct{})} }

// run looks for takers until ctx is done or none answers within patience. wake is
// called when there are new ones.
func (g *giver) run(ctx context.Context, patience time.Duration, wake func()) {
	defer g.set(nil, true)
	for failures := 0; failures < rounds && ctx.Err() == nil; failures++ {
		takers, err := gather(ctx, g.out, patience)
		if err != nil {
			return
		}
		g.set(takers, false)
		wake()
		for _, s := range takers {
			stop := context.AfterFunc(ctx, s.giveUp)
			<-s.done
			stop()
			if s.took {
				failures = 0
			}
		}
		g.set(nil, false)
	}
}

// gather makes offers until it seems that all who take have one. With several
// instances of a service, a connection may go to each of them: if all went to one,
// it would have most of them when each instance has been replaced.
func gather(ctx context.Context, out *net.UnixConn, patience time.Duration) (takers []*session, err error) {
	for failures := 0; failures < enough && len(takers) < maxTakers; {
		s, err := makeOffer(ctx, out, patience)
		switch {
		case err == nil:
			takers = append(takers, s)
		case errors.Is(err, io.EOF) || errors.Is(err, errTwice):
			failures++ // by who is leaving itself, or has one
		case len(takers) == 0:
			return nil, err
		default:
			return takers, nil
		}
	}
	return takers, nil
}

func (g *giver) set(takers []*session, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.takers, g.over = takers, over
	close(g.changed)
	g.changed = make(chan struct{})
}

// current returns a taker, each in turn, nil if there is none now, and whether
// there may be one later.
func (g *giver) current() (s *session, hope bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inTurn(), !g.over
}

func (g *giver) inTurn() *session {
	for range g.takers {
		g.turn++
		s := g.takers[g.turn%len(g.takers)]
		select {
		case <-s.done:
		default:
			return s
		}
	}
	return nil
}

// await returns a taker other than tried, ErrNoTaker, or the error of ctx.
func (g *giver) await(ctx context.Context, tried *session) (*session, error) {
	for {
		g.mu.Lock()
		s, over, changed := g.inTurn(), g.over, g.changed
		g.mu.Unlock()
		if over {
			return nil, ErrNoTaker
		}
		if s != nil && s != tried {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
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
		return ErrNoTaker
	}
	if err != nil {
		return err
	}
	closeAll(p.fds)
	switch {
	case p.err != nil || p.version != version:
		return errForeign
	case p.kind == refused:
		return errTwice
	case p.kind != hello:
		return errForeign
	}
	return c.SetReadDeadline(time.Time{})
}

// give sends a connection and returns nil if it is the taker's now. Otherwise it
// is still the caller's. Once it is sent, ctx changes nothing: only the taker's
// answer, or the end of the conversation, tells whose it is.
func (s *session) give(ctx context.Context, k kind, name string, state []byte, c syscall.Conn) error {
	select {
	case s.slot <- struct{}{}:
		defer func() { <-s.slot }()
	case <-s.done:
		return ErrNoTaker
	case <-ctx.Done():
		return ctx.Err()
	}
	id, answer := s.expect()
	if answer == nil {
		return ErrNoTaker
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
			s.answer(p.id, ErrRefused)
		}
	}
	s.mu.Lock()
	for _, answer := range s.waiting {
		answer <- ErrNoTaker
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
