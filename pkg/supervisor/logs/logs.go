// Package logs takes what services write and keeps it: in files, for whoever
// reads or follows them, and the end of it in memory.
//
// Each invocation has a [Stream]: one pipe for its stdout and stderr, and a
// goroutine that copies. What it reads it hands, in chunks of whole lines, to
// the [Sink] of its service, which has four places for it: the tail of the
// stream, the queue to the files, whoever follows, and supervisord's own
// stdout. None of them can hold up the copying for good. A full disk costs log
// lines, counted; a slow disk or terminal makes the copying wait for patience
// once, then costs lines as well; a slow follower is told how many it lost.
//
// Where there are files, the goroutine does not read: it looks into the pipe, and the
// bytes stay there until the kernel moves them to the file (see stage.go and load.go).
// So whoever kills supervisord takes no line with it, and the next one goes on with the
// pipes, if somebody has kept them ([Sink.Resume]).
//
// Files are for programs that know nothing of us: NAME.log holds the bytes as
// they were written, and nothing else. NAME.log.idx beside it says when and by
// which invocation (see index.go). One goroutine at a time works on the files
// of a service, and only while there is work. It alone opens, renames and
// removes them, so whoever wants to see them asks it for descriptors.
//
// A line ends at its newline. What is longer than [MaxLine], or has no end after a
// second, is handled in pieces; in the file others wait for its end, a second at most.
// The last line of an invocation may have no newline; in the file it gets one as soon
// as something else follows.
package logs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

const (
	// MaxLine is how many bytes of one line are held back to keep it in one piece.
	MaxLine = 32 << 10

	// patience is how long a copy loop waits for a disk or a terminal that does
	// not get on. After that nobody waits for it until it does.
	patience = time.Second

	// maxQueued is how much may wait for the files of one service.
	maxQueued = 1 << 20

	// keptTails is how many streams that have ended can still be read from
	// memory, where there are no files.
	keptTails = 4

	// maxAsking is how many readers may wait for the files of one service.
	maxAsking = 64
)

// Meta says who wrote something.
type Meta struct {
	Invocation unit.Invocation
	Tag        Tag
	Generation unit.Generation
	Instance   int
	PID        int // of the main process, whichever process of the invocation wrote it; 0: not known
}

// A Tag is the beginning of an $INVOCATION_ID, enough to tell it from others in a log;
// 0: not known.
type Tag uint32

// TagOf is the tag of an $INVOCATION_ID, or of the beginning of one: 8 hexadecimal digits
// are enough.
func TagOf(id string) (Tag, bool) {
	n, err := strconv.ParseUint(id[:min(len(id), 8)], 16, 32)
	return Tag(n), err == nil && len(id) >= 8
}

// A chunk is some lines of one stream. It does not change once it is made.
type chunk struct {
	from  *Stream
	time  time.Time
	text  []byte // whole lines, and a piece of one at the end if that is long, late, or the last
	lines int
	last  bool  // nothing comes after it
	load  *load // what of it is in the pipe yet; nil: nothing
}

// A Sink takes the output of all invocations of one service. All methods are
// safe for use by several goroutines.
type Sink struct {
	service string
	to      Elsewhere
	hold    time.Duration // maxWait
	gone    chan struct{}
	splices atomic.Bool // the files get the bytes from the pipes themselves

	mu     sync.Mutex
	closed bool
	spec   unit.Log
	disk   spool[errand]  // worked off by keep
	screen spool[forward] // worked off by show
	keep   keeper
	hub    hub
	asking int // readers that wait for keep
	live   []*Stream
	ended  []*Stream // the last keptTails of them

	written, dropped, hidden uint64
	err                      error
	blunt                    bool // bytes cannot be spliced into the file
}

// Open makes the sink of a service. Files are made in dir when there is
// something to write; dir is used until Close and not closed. Without dir there
// are no files. What spec forwards goes elsewhere, if there is such a place, by one
// goroutine at a time.
//
// from is the stage of a former manager, if there is one. What it holds is written first.
func Open(dir *safepath.Dir, service string, spec unit.Log, to Elsewhere, from Stage) *Sink {
	s := prepare(dir, service, spec, to, from)
	s.goOn()
	return s
}

// prepare makes a sink that has done nothing yet.
func prepare(dir *safepath.Dir, service string, spec unit.Log, to Elsewhere, from Stage) *Sink {
	s := &Sink{service: service, to: to, hold: maxWait, gone: make(chan struct{})}
	s.keep = keeper{
		dir: newFolder(dir), name: service + ".log", now: time.Now, again: s.errand,
		urge: s.urge, bear: maxWait, blunt: s.setBlunt,
	}
	s.keep.inherit(from)
	s.disk.init(&s.mu, maxQueued, s.work)
	s.screen.init(&s.mu, maxForward, s.show)
	s.set(spec)
	s.keep.spec = s.spec
	return s
}

// set takes in a configuration. mu is held, or nobody else has s yet.
func (s *Sink) set(spec unit.Log) {
	spec.File = spec.File && s.keep.dir != nil
	spec.Forward = spec.Forward && s.to.Stdout != nil
	spec.Journal = spec.Journal && s.to.Journal != nil
	s.spec = spec
	s.splices.Store(spec.File && !s.blunt)
}

// setBlunt says whether the file takes only what was read before, and tells why.
func (s *Sink) setBlunt(blunt bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blunt == blunt {
		return
	}
	s.blunt = blunt
	s.splices.Store(s.spec.File && !blunt)
	if blunt && s.to.Tell != nil {
		go s.to.Tell(s.service, why)
	}
}

// Configure has all that is written from now on kept as spec says.
func (s *Sink) Configure(spec unit.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.spec
	if s.closed {
		return
	}
	if s.set(spec); s.spec == before { // each start says it again, however long the disk hangs
		return
	}
	taken := s.spec
	s.disk.add(errand{do: func() { s.keep.configure(taken) }}, 0)
}

// Reopen closes the files and opens them by name, since somebody may have moved
// them. An error means that lines are dropped until they can be opened; that is
// tried again by itself.
func (s *Sink) Reopen() error {
	var err error
	if !s.await(func() { err = s.keep.reopen() }, nil) {
		return fmt.Errorf("cannot reopen %s: %w", s.keep.name, errSilent)
	}
	return err
}

// Stats are the lines that were written to files, and those that were meant to
// be but are lost. err is why the last that came could not be written; nil: it was.
func (s *Sink) Stats() (written, dropped uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written, s.dropped, s.err
}

// Hidden is the number of lines that a slow reader of our stdout did not get.
func (s *Sink) Hidden() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hidden
}

// Close writes what it has, unless the disk does not answer, and closes the
// files. Streams that have not ended are read no more; what is in their pipes
// stays there. Whoever follows comes to an end.
func (s *Sink) Close() {
	s.mu.Lock()
	live := slices.Clone(s.live)
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return
	}
	for _, st := range live {
		st.abandon()
	}
	s.await(func() { s.keep.close() }, nil)
	close(s.gone)
}

// accept takes a chunk to its four places, and says whether it is among those that are
// to be written.
func (s *Sink) accept(c chunk) (queued bool) {
	shown := s.dress(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(c.text) == 0 {
		s.forward(shown)
		return false
	}
	room := !s.spec.File || s.disk.wait(c.size())
	// From here on mu is not released until the chunk is in the queue, in the
	// tail and with the followers: who joins sees it either as past or as new.
	switch {
	case s.spec.File && room:
		s.disk.add(errand{chunk: c}, c.size())
	case s.spec.File:
		s.dropped += uint64(c.lines)
		s.keep.missed.Add(uint64(c.lines))
	}
	c.from.tail.add(c)
	s.hub.add(c)
	queued = s.spec.File && room
	s.forward(shown)
	return queued
}

// well waits until a load is moved, but for no longer than the disk has patience, and
// says whether the disk gets on.
func (s *Sink) well(l *load) bool {
	s.mu.Lock()
	turn, stalled := s.disk.turn, s.disk.stalled
	s.mu.Unlock()
	if stalled {
		return false
	}
	late := time.NewTimer(s.disk.late)
	defer late.Stop()
	select {
	case <-l.moved:
		return true
	case <-late.C:
	}
	aside := l.isAside()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk.stalled = s.disk.stalled || s.disk.turn == turn && !aside
	return !s.disk.stalled
}

// errand has the keeper do something after all that is queued.
func (s *Sink) errand(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk.add(errand{do: do}, 0)
}

// urge has the keeper look at what it has put aside.
func (s *Sink) urge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk.add(errand{do: func() {}, urgent: true}, 0)
}

// await is errand, and waits until it is done; false: not in patience, or not
// before cancel.
func (s *Sink) await(do func(), cancel <-chan struct{}) bool {
	done := make(chan struct{})
	s.errand(func() { defer close(done); do() })
	var late <-chan time.Time
	if cancel == nil {
		t := time.NewTimer(s.answer())
		defer t.Stop()
		late = t.C
	}
	select {
	case <-done:
		return true
	case <-cancel:
	case <-late:
	}
	return false
}

// answer is how long the disk may take to answer whoever asks it.
func (s *Sink) answer() time.Duration { return 5 * s.disk.late }

var errSilent = errors.New("the disk does not answer")

// begin and end are the sink's part in the life of a stream.
func (s *Sink) begin(st *Stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("cannot take output of %s: its log is closed", s.service)
	}
	s.live = append(s.live, st)
	return nil
}

func (s *Sink) end(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = slices.DeleteFunc(s.live, func(x *Stream) bool { return x == st })
	s.ended = append(s.ended, st)
	if n := len(s.ended) - keptTails; n > 0 {
		s.ended = slices.Delete(s.ended, 0, n)
	}
	if len(s.live) == 0 && s.spec.File && !s.closed {
		s.disk.add(errand{do: s.keep.rest}, 0)
	}
}
