package logs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

const (
	maxWrite = 256 << 10            // bytes gathered for one write(2)
	maxOver  = 2                    // a file that cannot be rotated grows to this many times its size
	maxPlan  = 2*maxWrite + MaxLine // no record is written further ahead
)

// writers bounds how many services write at a time: each holds a thread while
// the disk is slow.
var writers = make(chan struct{}, 8)

// An errand is work for the keeper: a chunk to write, or something to do when
// all before it is written.
type errand struct {
	chunk  chunk
	do     func()
	urgent bool // it waits for no line of anybody
}

// A keeper owns the log files of one service. Only the goroutine of the sink's
// disk spool uses it, one at a time.
type keeper struct {
	dir    *folder
	name   string // of the log file
	now    func() time.Time
	again  func(func()) // queues something to be done here later
	urge   func()       // queues an urgent errand
	blunt  func(blunt bool, why string)
	spec   unit.Log
	missed atomic.Uint64 // lines that never came here, since the queue was full

	seen    bool     // in this batch it was looked whether log is still what it was
	log     *os.File // nil: not open
	size    int64    // of log
	midline bool     // the last line in log has no end
	from    *Stream  // who wrote it; nil: not known
	heir    Meta     // who wrote it before we were killed; zero: not known

	bear  time.Duration // how long others wait for the end of a line
	until time.Time     // they do now
	aside []errand      // what waits for that, in its order

	idx     *os.File // nil: there is no index
	idxSize int64
	last    entry // in idx; unknown: the next chunk needs a record

	plan   []piece // to be written at size
	text   []byte  // of those pieces that are only in memory
	ahead  int     // bytes in plan
	lines  uint64  // in it
	before entry   // the last in idx before its
	marks  []entry // its records
	lost   uint64  // lines that no record tells of

	stage    stage
	ours     Stage // see Open; what we know of it before the log is opened
	plain    bool  // the log is written to, as it cannot be spliced to
	append   bool  // nor at a place
	resuming bool  // the log was not opened yet, and a former manager has left a stage

	squeeze *squeeze // a compression that is under way
	closed  bool

	reopenAt time.Time // no open before that
	rotateAt time.Time // no rotation before that
	err      error     // why there is no log or no index, or why the last write failed
	full     error     // why the log could not be rotated

	written, dropped uint64 // since the last report
}

// work works off a batch of the disk's spool. What it did is known to
// [Sink.Stats] before anything is done that others wait for.
func (s *Sink) work(batch []errand) {
	writers <- struct{}{}
	defer func() { <-writers }()
	s.keep.lost += s.keep.missed.Swap(0)
	s.keep.seen = false
	for _, e := range batch {
		s.serve(e)
	}
	s.report()
}

// serve does an errand, or puts it aside until somebody else's line has its end.
func (s *Sink) serve(e errand) {
	k := &s.keep
	if k.waits(e) {
		k.putAside(e)
		return
	}
	s.perform(e)
	for len(k.aside) > 0 && (!k.held() || k.continues(k.aside[0])) {
		e, k.aside = k.aside[0], k.aside[1:]
		s.perform(e)
	}
}

func (s *Sink) perform(e errand) {
	if e.do == nil {
		s.keep.add(e.chunk)
		return
	}
	s.report()
	e.do()
}

// report writes what was gathered, and says what became of it. The error is why
// lines are lost now, or might be soon; nil: all is well.
func (s *Sink) report() {
	k := &s.keep
	k.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written += k.written
	s.dropped += k.dropped
	s.err = cmp.Or(k.err, k.full)
	k.written, k.dropped = 0, 0
}

// add takes a chunk, and cuts it where a file is full.
func (k *keeper) add(c chunk) {
	if !k.seen {
		k.seen = true
		k.ready()
	}
	for text := c.text; len(text) > 0; {
		if k.log == nil && !k.ready() {
			k.refuse(c, text)
			return
		}
		n := k.fit(c, text)
		if n == 0 {
			if k.makeRoom() || k.log == nil {
				continue
			}
			if n = len(text); k.size+int64(n) > maxOver*k.spec.MaxSize {
				k.refuse(c, text)
				return
			}
		}
		k.gather(c, text[:n])
		text = text[n:]
	}
}

// fit is how much of text still goes into the current file: whole lines, unless
// one line alone is too long, and the end of a line that is begun there. Nothing: the
// file is full.
func (k *keeper) fit(c chunk, text []byte) int {
	used := k.end()
	room := k.spec.MaxSize - used
	switch {
	case k.spec.MaxSize <= 0 || room >= int64(len(text)):
		return len(text)
	case room > 0 && wholeLines(text[:room]) > 0:
		return wholeLines(text[:room])
	}
	line, _, _ := cutLine(text)
	n := min(len(line)+1, len(text))
	if begun := k.midline && k.isOf(c.from) && used+int64(n) <= maxOver*k.spec.MaxSize; begun || used == 0 {
		return n
	}
	return 0
}

// gather puts text behind what is to be written.
func (k *keeper) gather(c chunk, text []byte) {
	if len(text) == 0 {
		return
	}
	if k.ahead == 0 {
		k.before = k.last
	}
	if k.midline && !k.isOf(c.from) {
		k.put(chunk{from: c.from}, newline)
	}
	k.mark(c)
	k.put(c, text)
	k.lines += uint64(countLines(text))
	k.hold(c, text)
	if k.ahead >= maxWrite {
		k.flush()
	}
}

var newline = []byte("\n")

// mark makes a record, if there should be one here.
func (k *keeper) mark(c chunk) {
	e := entry{Meta: c.from.by(), offset: k.end(), time: c.time}
	age := e.time.Sub(k.last.time)
	if k.last.known() && e.Meta == k.last.Meta && k.lost == 0 &&
		e.offset-k.last.offset < indexBytes && age >= 0 && age < indexTime {
		return
	}
	e.lost = uint32(min(k.lost, math.MaxUint32))
	k.lost -= uint64(e.lost)
	k.marks = append(k.marks, e)
	k.last = e
}

// flush writes what was gathered, records first. If the disk takes only a part,
// whole lines of it stay and the rest is dropped.
func (k *keeper) flush() {
	if k.ahead == 0 {
		return
	}
	k.writeMarks()
	n, err := k.write()
	if err != nil {
		k.cut(n)
		k.err = k.fault("write", k.name, err)
	} else {
		k.size += int64(n)
		k.written += k.lines
		k.well()
	}
	clear(k.plan)
	k.plan, k.ahead = k.plan[:0], 0
	k.text, k.lines, k.marks = k.text[:0], 0, k.marks[:0]
	if cap(k.text) > 2*maxWrite {
		k.text = nil
	}
}

// well: nothing that is written from here on would be lost.
func (k *keeper) well() {
	if k.idx != nil {
		k.err = nil
	}
}

func (k *keeper) writeMarks() {
	if k.idx == nil || len(k.marks) == 0 {
		return
	}
	var b []byte
	for _, e := range k.marks {
		b = e.append(b)
	}
	if _, err := k.idx.WriteAt(b, k.idxSize); err != nil {
		k.unmark(0) // the next chunk tries again, at the same place
		return
	}
	k.idxSize += int64(len(b))
}

// shift has what is being written, and its records, begin elsewhere. What of it was
// there before the file was made shorter is gone, so the new beginning may be below 0.
func (k *keeper) shift(by int64) {
	if k.idx != nil {
		k.idxSize -= int64(len(k.marks)) * recordSize
	}
	if by < 0 {
		k.resetIndex()
		if k.before.known() {
			k.marks = slices.Insert(k.marks, 0, entry{Meta: k.before.Meta, offset: k.size, time: k.before.time})
		}
	}
	k.size += by
	for i := range k.marks {
		k.marks[i].offset = max(0, k.marks[i].offset+by)
	}
	k.last = entry{}
	k.writeMarks()
}

// unmark takes the records back but for the first n.
func (k *keeper) unmark(n int) {
	for _, e := range k.marks[n:] {
		k.lost += uint64(e.lost)
	}
	k.marks = k.marks[:n]
	k.last = entry{}
}

// cut makes the files as if of the text only the whole lines had been written
// that were, n bytes in all.
func (k *keeper) cut(n int) {
	text := k.planned()
	whole := wholeLines(text[:n])
	k.written += uint64(countLines(text[:whole]))
	k.drop(text[whole:])
	kept := 0
	for kept < len(k.marks) && k.marks[kept].offset < k.size+int64(whole) {
		kept++
	}
	if k.idx != nil && kept < len(k.marks) {
		k.idxSize -= int64(len(k.marks)-kept) * recordSize
		k.idx.Truncate(k.idxSize)
	}
	k.unmark(kept)
	k.log.Truncate(max(0, k.size+int64(whole)))
	if err := k.measure(); err != nil {
		k.shut()
	}
}

// refuse drops the rest of a chunk, also what of it is in its pipe.
func (k *keeper) refuse(c chunk, text []byte) {
	k.drop(text)
	if c.load != nil {
		c.load.drop(len(text))
	}
}

func (k *keeper) drop(text []byte) {
	n := uint64(countLines(text))
	k.dropped += n
	k.lost += n
}

// fault is an error of a file that is open.
func (k *keeper) fault(verb, name string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("cannot %s %s/%s: %w", verb, k.dir.path, name, err)
}

func (k *keeper) configure(spec unit.Log) {
	k.spec = spec
	if !spec.File {
		k.shut()
		k.err, k.full = nil, nil
	}
}

// reopen is for a file or a directory that was moved.
func (k *keeper) reopen() error {
	if k.dir == nil || !k.spec.File || k.closed {
		return nil
	}
	k.shut()
	k.reopenAt, k.rotateAt = time.Time{}, time.Time{}
	if k.err = k.dir.walk(); k.err != nil {
		return k.err
	}
	k.ready()
	return k.err
}

// rest: nothing more is written for now. A file that is kept open would take up its
// space after somebody has removed it to make room.
func (k *keeper) rest() {
	k.shut()
	k.reopenAt = time.Time{}
}

func (k *keeper) close() {
	k.closed = true
	k.shut()
	k.stage.close()
	if k.squeeze != nil {
		k.squeeze.abort()
	}
	if k.dir != nil {
		k.dir.close()
	}
}
